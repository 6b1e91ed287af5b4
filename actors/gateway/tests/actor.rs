//! The actor: real sockets on one side, a clerk that the test plays on the other.

mod common;

use std::{collections::BTreeSet, net::TcpListener, rc::Rc, time::Duration};

use common::{divided, request, standing};
use quorate_clerk::{Message as ToClerk, Outcome};
use quorate_gateway::{Config, Counts, Gateway, Message, Redirect};
use quorate_kvserver::Store;
use quorate_protocol::{Name, NodeId, Role as RoleName, log::Index};
use quorate_rsm::{At, StateMachine};
use quorate_shardmaster::{Command, ShardMaster};
use quorate_stage::{Limits, Mailbox, Node, Outlet, Role, Stage, seat};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Does everything at once, and tells the gateway of new configurations.
struct Clerk {
    store: Store,
    master: ShardMaster,
    gateway: Mailbox<Message>,
}

impl Role for Clerk {
    type Message = ToClerk;
    type Timer = ();

    fn receive(&mut self, _: Name, message: ToClerk, stage: &mut Stage<Self>) {
        match message {
            ToClerk::Submit { ops, reply } => {
                let done = |(token, op)| (token, Outcome::Done(self.store.apply(&op)));
                reply.send(stage.name(), ops.into_iter().map(done).collect());
            }
            ToClerk::Administer { calls, reply } => {
                let at = At { index: Index(1), time_ms: 0 };
                let done = |(token, call)| (token, Outcome::Done(self.master.apply(at, call)));
                let outcomes = calls.into_iter().map(done).collect();
                let newest = self.master.newest().clone();
                self.gateway.send(stage.name(), Message::Configured(newest));
                reply.send(stage.name(), outcomes);
            }
            ToClerk::Served(_) | ToClerk::Notice(_) | ToClerk::MasterStarted | ToClerk::Stop => {}
        }
    }

    fn on_timer(&mut self, (): (), _: &mut Stage<Self>) {}
}

struct Scene {
    gateway: Mailbox<Message>,
    stream: TcpStream,
}

impl Scene {
    /// Sends a command and gives its answer, which comes in one piece: it is short.
    async fn command(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        self.stream.write_all(&request(&words)).await.unwrap();
        let mut answer = vec![0; 4096];
        let length = self.stream.read(&mut answer).await.unwrap();
        String::from_utf8(answer[..length].to_vec()).unwrap()
    }

    fn tell(&self, message: Message) {
        self.gateway.send(self.gateway.name(), message);
    }
}

/// Node 1 of `divided`, in a cluster of two shards; whenever it looks, these are the leaders.
fn scene(leaders: &'static [(u32, u32)], test: impl AsyncFnOnce(Scene)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let me = NodeId(1);
        let node = Node::new(me, 0, 1, Limits::default(), |fatal| panic!("{fatal}"), None);
        let clerk = seat::<Clerk>(&node, Name::of_node(me, RoleName::Clerk));
        let place = seat::<Gateway>(&node, Name::of_node(me, RoleName::Gateway));
        let gateway = place.mailbox();
        let listen = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listen.local_addr().unwrap();
        let mut info = divided();
        let groups = std::mem::take(&mut info.groups);
        let looker = gateway.clone();
        let config = Rc::new(Config {
            listen,
            clerk: clerk.mailbox(),
            info,
            redirect: Redirect::Always,
            groups,
            clients_max: 10,
            look: Outlet::from_fn(move |from, ()| {
                looker.send(from, Message::Standing(standing(leaders)));
            }),
            counts: Rc::new(Counts::default()),
        });
        let users = gateway.clone();
        clerk.take(move |_| {
            let mut master = ShardMaster::default();
            let at = At { index: Index(1), time_ms: 0 };
            master.apply(at, Command::Form { shards: 2 });
            Clerk { store: Store::new(), master, gateway: users.clone() }
        });
        let up: BTreeSet<NodeId> = [2, 3, 4].map(NodeId).into();
        place.take(move |_| Gateway::new(config.clone(), &up));
        let stream = TcpStream::connect(address).await.unwrap();
        test(Scene { gateway, stream }).await;
    });
}

const MOVED: &str = "-MOVED 15495 127.0.0.1:7002\r\n";

#[test]
fn administration_and_redirections_over_a_socket() {
    scene(&[(1, 1), (2, 2)], async |mut scene| {
        assert_eq!(scene.command("SET a 1").await, "+OK\r\n", "nobody has the shard");
        assert_eq!(scene.command("SHARDS JOIN g1 g2").await, ":1\r\n");
        assert_eq!(scene.command("SET a 1").await, MOVED);
        assert_eq!(scene.command("SET b 1").await, "+OK\r\n");
        assert_eq!(scene.command("SHARDS LEAVE g2").await, ":2\r\n");
        assert_eq!(scene.command("GET a").await, "$1\r\n1\r\n");
        let info = scene.command("INFO errorstats").await;
        assert!(info.contains("errorstat_MOVED:count=1\r\n"), "{info}");
        scene.tell(Message::Stop);
        let refused = "-LOADING the node is not ready; the command was not executed\r\n";
        assert_eq!(scene.command("GET a").await, refused);
        assert_eq!(scene.command("SHARDS QUERY").await, refused);
    });
}

/// Who is sent elsewhere because of old news must not be sent to and fro for a second.
#[test]
fn who_leads_is_asked_again_soon_after_a_redirection() {
    scene(&[(1, 1)], async |mut scene| {
        assert_eq!(scene.command("SHARDS JOIN g1").await, ":1\r\n");
        assert_eq!(scene.command("GET a").await, "$-1\r\n");
        // Old news: what the node finds when it looks is that it leads itself.
        scene.tell(Message::Standing(standing(&[(1, 2)])));
        let begin = tokio::time::Instant::now();
        let mut redirected = 0;
        while scene.command("GET a").await == MOVED {
            redirected += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let took = begin.elapsed();
        assert!(redirected > 0 && took < Duration::from_millis(200), "{redirected}, {took:?}");
    });
}
