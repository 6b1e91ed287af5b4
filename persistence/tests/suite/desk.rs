//! A files' actor in virtual time, and who asks it.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use quorate_persistence::{Disk, FileEvent, FilesActor, FilesMessage, SimDisk, Writer};
use quorate_protocol::{Name, NodeId, Role};
use quorate_stage::{Fatal, Limits, Mailbox, Node, Outlet, seat};
use tokio::task::LocalSet;

/// Bytes that the files' actor carries out at one go.
pub(crate) const STEP: u64 = 1000;

/// A files' actor on a simulated disk, and what it has answered.
pub(crate) struct Desk {
    pub(crate) stage: Node,
    pub(crate) files: Mailbox<FilesMessage>,
    answers: Arc<Mutex<Vec<FileEvent>>>,
    pub(crate) fatals: Arc<Mutex<Vec<String>>>,
}

impl Desk {
    pub(crate) fn run<T>(disk: &SimDisk, test: impl AsyncFnOnce(Desk) -> T) -> T {
        Desk::with_steps(disk, STEP, test)
    }

    /// The same, with steps of `step_bytes`.
    pub(crate) fn with_steps<T>(
        disk: &SimDisk,
        step_bytes: u64,
        test: impl AsyncFnOnce(Desk) -> T,
    ) -> T {
        let make = move |disk| FilesActor::new(disk, step_bytes, Duration::ZERO);
        Desk::with(disk, make, test)
    }

    /// The same, with an actor that `make` makes.
    pub(crate) fn with<T>(
        disk: &SimDisk,
        make: impl Fn(Arc<dyn Disk>) -> FilesActor + 'static,
        test: impl AsyncFnOnce(Desk) -> T,
    ) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let fatals: Arc<Mutex<Vec<String>>> = Arc::default();
            let told = fatals.clone();
            let on_fatal = move |fatal: Fatal| told.lock().unwrap().push(fatal.to_string());
            let stage = Node::new(NodeId(1), 0, 1, Limits::default(), on_fatal, None);
            let place = seat::<FilesActor>(&stage, Name::of_node(NodeId(1), Role::Files));
            let files = place.mailbox();
            let disk: Arc<dyn Disk> = Arc::new(disk.clone());
            let handle = place.take(move |_| make(disk.clone()));
            let result = test(Desk { stage, files, answers: Arc::default(), fatals }).await;
            handle.abort();
            result
        })
    }

    pub(crate) fn reply(&self) -> Outlet<FileEvent> {
        let answers = self.answers.clone();
        Outlet::from_fn(move |_, event| answers.lock().unwrap().push(event))
    }

    pub(crate) fn send(&self, message: FilesMessage) {
        self.files.send(Name::of_node(NodeId(1), Role::Outside), message);
    }

    pub(crate) fn save(&self, path: &Path, id: u64, content: &[u8]) {
        let pieces: Vec<Bytes> = content.chunks(100).map(Bytes::copy_from_slice).collect();
        let (path, writer) = (path.to_path_buf(), Writer::new(pieces.into_iter()));
        self.send(FilesMessage::Save { path, id, writer, reply: self.reply() });
    }

    pub(crate) fn adopt(&self, path: &Path, to: &Path, id: u64) {
        let (path, to) = (path.to_path_buf(), to.to_path_buf());
        self.send(FilesMessage::Adopt { path, to, id, reply: self.reply() });
    }

    pub(crate) fn part(&self, path: &Path, offset: u64, bytes: &[u8]) {
        let (path, bytes) = (path.to_path_buf(), Bytes::copy_from_slice(bytes));
        let reply = self.reply();
        self.send(FilesMessage::WritePart { path, id: offset, offset, bytes, sync: true, reply });
    }

    pub(crate) fn ask(&self, path: &Path, id: u64) {
        self.send(FilesMessage::Ask { path: path.to_path_buf(), id, reply: self.reply() });
    }

    pub(crate) async fn sleep(&self) {
        tokio::time::sleep(Duration::from_secs(10)).await;
    }

    pub(crate) async fn moment(&self) {
        tokio::time::sleep(Duration::from_millis(3)).await;
    }

    /// Everything that was answered since it was last asked.
    pub(crate) fn answered(&self) -> Vec<FileEvent> {
        std::mem::take(&mut self.answers.lock().unwrap())
    }
}
