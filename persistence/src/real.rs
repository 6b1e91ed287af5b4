//! The disk of this machine: `std::fs`, temporary files by `tempfile`, locks by `fs4`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{OnceLock, mpsc};
use std::thread;

use fs4::fs_std::FileExt;
use tempfile::NamedTempFile;

use crate::disk::{DirLock, Disk, DiskError, DiskFile, Kind, TEMP_PREFIX};

/// The name of the lock file in a locked directory. It stays when the lock is gone.
pub const LOCK_FILE: &str = "lock";

/// Bytes of a removed file that are freed at one go.
const STEP_BYTES: u64 = 4 * 1024 * 1024;

/// Frees what a file holds that has no name any more, beside everything else: to free hundreds of
/// megabytes takes a file system a good part of a second, in which a journal would not sync.
fn free_slowly(file: File) {
    static FILES: OnceLock<Option<mpsc::Sender<File>>> = OnceLock::new();
    let files = FILES.get_or_init(|| {
        let (files, removed) = mpsc::channel();
        let work = move || removed.into_iter().for_each(free);
        thread::Builder::new().name("removed".into()).spawn(work).ok().map(|_| files)
    });
    if let Some(files) = files {
        // Whatever cannot be handed over is dropped, and freed, here.
        let _ = files.send(file);
    }
}

fn free(file: File) {
    let Ok(metadata) = file.metadata() else { return };
    // Somebody else may have given it another name: then it is not ours.
    if metadata.nlink() > 0 {
        return;
    }
    let mut len = metadata.len();
    while len > STEP_BYTES {
        len -= STEP_BYTES;
        if file.set_len(len).is_err() {
            return;
        }
    }
}

/// The file system of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

/// Names the operation and the path in what an operation of the system answers.
fn told<T>(doing: &'static str, path: &Path, result: io::Result<T>) -> Result<T, DiskError> {
    result.map_err(|error| DiskError::of(doing, path, &error))
}

/// The directory that holds `path`; `.` for a bare name.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    }
}

impl Disk for RealDisk {
    fn create_dir_all(&self, dir: &Path) -> Result<(), DiskError> {
        if self.kind(dir)? == Some(Kind::Dir) {
            return Ok(());
        }
        if parent(dir) != Path::new(".") {
            self.create_dir_all(parent(dir))?;
        }
        match fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            made => told("create directory", dir, made)?,
        }
        self.sync_dir(parent(dir))
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, DiskError> {
        let mut names = Vec::new();
        for entry in told("list", dir, fs::read_dir(dir))? {
            let entry = told("list", dir, entry)?;
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn kind(&self, path: &Path) -> Result<Option<Kind>, DiskError> {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => Ok(Some(Kind::Dir)),
            Ok(_) => Ok(Some(Kind::File)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(DiskError::of("look at", path, &error)),
        }
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, DiskError> {
        told("read", path, fs::read(path))
    }

    fn read_at(&self, path: &Path, offset: u64, bytes_max: usize) -> Result<Vec<u8>, DiskError> {
        let mut bytes = Vec::new();
        let mut file = told("read", path, File::open(path))?;
        told("read", path, file.seek(SeekFrom::Start(offset)))?;
        told("read", path, file.take(bytes_max as u64).read_to_end(&mut bytes))?;
        Ok(bytes)
    }

    fn create_temp(&self, dir: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        let temp = tempfile::Builder::new().prefix(TEMP_PREFIX).tempfile_in(dir);
        Ok(Box::new(TempFile(told("create a file in", dir, temp)?)))
    }

    fn open_existing(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        let file = told("open", path, OpenOptions::new().write(true).open(path))?;
        Ok(Box::new(NamedFile { file, path: path.to_path_buf(), cut: false }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        told("rename", from, fs::rename(from, to))
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        // Held over its removal, so that it costs nothing yet.
        let large = OpenOptions::new().write(true).open(path).ok();
        let large = large.filter(|file| file.metadata().is_ok_and(|m| m.len() > STEP_BYTES));
        told("remove", path, fs::remove_file(path))?;
        if let Some(file) = large {
            free_slowly(file);
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        told("sync directory", dir, File::open(dir).and_then(|dir| dir.sync_all()))
    }

    fn available_bytes(&self, dir: &Path) -> Result<u64, DiskError> {
        told("ask for the free room of", dir, fs4::available_space(dir))
    }

    fn lock(&self, dir: &Path) -> Result<DirLock, DiskError> {
        let path = dir.join(LOCK_FILE);
        let mut options = OpenOptions::new();
        let opened = options.create(true).truncate(false).write(true).open(&path);
        let file = told("open", &path, opened)?;
        // Named in full: the standard library has methods of the same name.
        match told("lock", &path, FileExt::try_lock_exclusive(&file))? {
            true => Ok(DirLock::new(Box::new(file))),
            false => Err(DiskError::InUse { path: dir.to_path_buf() }),
        }
    }
}

/// A file under its own name.
struct NamedFile {
    file: File,
    path: PathBuf,
    /// Whether the length was set since the last sync: then metadata must reach the disk too.
    cut: bool,
}

/// A file that vanishes when dropped.
struct TempFile(NamedTempFile);

fn write_all_at(mut file: &File, path: &Path, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
    told("write", path, file.seek(SeekFrom::Start(offset)))?;
    told("write", path, file.write_all(bytes))
}

impl DiskFile for NamedFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        write_all_at(&self.file, &self.path, offset, bytes)
    }

    fn sync_data(&mut self) -> Result<(), DiskError> {
        let synced = if self.cut { self.file.sync_all() } else { self.file.sync_data() };
        told("sync", &self.path, synced)?;
        self.cut = false;
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> Result<(), DiskError> {
        self.cut = true;
        told("truncate", &self.path, self.file.set_len(len))
    }

    fn len(&self) -> Result<u64, DiskError> {
        Ok(told("look at", &self.path, self.file.metadata())?.len())
    }

    fn persist(self: Box<Self>, target: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "the file has a name already");
        Err(DiskError::of("rename", target, &error))
    }
}

impl DiskFile for TempFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        write_all_at(self.0.as_file(), self.0.path(), offset, bytes)
    }

    fn sync_data(&mut self) -> Result<(), DiskError> {
        // All of it: the file is new, its length and its blocks are metadata.
        told("sync", self.0.path(), self.0.as_file().sync_all())
    }

    fn truncate(&mut self, len: u64) -> Result<(), DiskError> {
        told("truncate", self.0.path(), self.0.as_file().set_len(len))
    }

    fn len(&self) -> Result<u64, DiskError> {
        Ok(told("look at", self.0.path(), self.0.as_file().metadata())?.len())
    }

    fn persist(self: Box<Self>, target: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        let file = self.0.persist(target).map_err(|failed| failed.error);
        let file = told("rename a temporary file to", target, file)?;
        Ok(Box::new(NamedFile { file, path: target.to_path_buf(), cut: false }))
    }
}
