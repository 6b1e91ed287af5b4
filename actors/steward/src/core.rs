//! The rules of the steward.

use std::{collections::BTreeSet, time::Duration};

use quorate_protocol::{
    Change, Configuration, Core, Incarnation, Member, Name, Never, NodeId, Out, log::Request,
};
use quorate_stage::Outlet;

use crate::messages::Message;

/// How often a member that nobody answers asks whether it still is one.
const QUESTIONS_MAX: u32 = 8;

/// What a steward is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its machine, and the directory of that.
    pub me: Member,
    /// The machines of the group, as far as the node was told.
    pub nodes: Vec<NodeId>,
    /// How long to wait for an answer before asking again.
    pub retry: Duration,
}

/// What its node is to the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody.
    Blank,
    /// Nobody yet: the name that it was given is on its way to the disk.
    Named(NodeId, Configuration),
    /// This member.
    Member(NodeId),
    /// It was a member, and is none any more.
    Gone,
}

/// What a steward asks to be woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Ask again.
    Again,
}

/// What a steward says, and to whom.
#[derive(Clone, Debug)]
pub enum Outbound {
    /// To the stewards on these machines.
    Stewards(Vec<NodeId>, Message),
    /// To the engine of this node.
    Engine(Outlet<Request>, Request),
    /// To the files: this is who we are.
    Record(NodeId, Configuration),
    /// To the node: begin as this member.
    Begin(NodeId, Configuration),
    /// To the node: the group has no place for this directory any more, and why.
    Gone(String),
    /// To the node: something that its operator should know.
    Warn(String),
}

/// The steward of one group on one node.
#[derive(Clone, Debug)]
pub struct Steward {
    config: Config,
    standing: Standing,
    engine: Option<Outlet<Request>>,
    /// Who the members are, as far as is known here to be chosen.
    configuration: Configuration,
    /// Our engine has said so, and not only others.
    sure: bool,
    /// Nothing is to be asked for: we are a voter, or have been heard to be a member.
    settled: bool,
    questions: u32,
    warned: bool,
}

impl Steward {
    /// The steward of a node that is a member already, or is to become one.
    pub fn new(config: Config, standing: Standing) -> Self {
        Steward {
            config,
            standing,
            engine: None,
            configuration: Configuration::default(),
            sure: false,
            settled: false,
            questions: 0,
            warned: false,
        }
    }

    /// The same, if a former life of it knew this: where its engine takes requests, and who the members are.
    pub fn knowing(
        self,
        engine: Option<Outlet<Request>>,
        configuration: Option<Configuration>,
    ) -> Self {
        let sure = configuration.is_some();
        Steward { engine, sure, configuration: configuration.unwrap_or_default(), ..self }
    }

    /// What its node is to the group.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// First words after a start.
    pub fn start(&mut self, out: &mut Out<Self>) {
        self.ask(out);
    }

    /// Whether the directory has got, or wants, its name from the group.
    fn is_later(&self) -> bool {
        match self.standing {
            Standing::Blank | Standing::Named(..) => true,
            Standing::Member(node) => node.life() > 0,
            Standing::Gone => false,
        }
    }

    fn others(&self) -> Vec<NodeId> {
        let members = self.configuration.members();
        let machines = self.config.nodes.iter().copied().chain(members);
        let machines: BTreeSet<NodeId> = machines.map(NodeId::home).collect();
        let me = self.config.me.node.home();
        machines.into_iter().filter(|node| *node != me).collect()
    }

    fn ask(&mut self, out: &mut Out<Self>) {
        let others = self.others();
        if self.settled || self.standing == Standing::Gone || others.is_empty() {
            return;
        }
        let wants = self.is_later();
        self.questions += 1;
        if !wants && self.questions > QUESTIONS_MAX {
            // A member whose group is silent: there is nothing to know.
            return;
        }
        let incarnation = self.config.me.incarnation;
        out.send(Outbound::Stewards(others, Message::Petition { incarnation, wants }));
        let shift = if wants { 0 } else { self.questions.min(QUESTIONS_MAX) };
        let after = self.config.retry * (1 << shift);
        out.set_timer(Timer::Again, after, after * 3 / 2);
    }

    fn on_petition(
        &mut self,
        from: NodeId,
        incarnation: Incarnation,
        wants: bool,
        out: &mut Out<Self>,
    ) {
        if !self.sure {
            return;
        }
        let change = Change::Replace(Member { node: from.home(), incarnation });
        let is_open = self.configuration.after(&change).is_ok();
        if let (true, true, Some(engine)) = (wants, is_open, &self.engine) {
            out.send(Outbound::Engine(engine.clone(), Request::Reconfigure(change)));
        }
        let configuration = self.configuration.clone();
        out.send(Outbound::Stewards(vec![from], Message::Told { configuration }));
    }

    /// Looks at who the members are.
    fn on_configuration(&mut self, configuration: &Configuration, out: &mut Out<Self>) {
        let me = self.config.me;
        let last = configuration.lives.get(&me.node.home()).map_or(0, |life| life.number);
        match &self.standing {
            Standing::Blank => {
                if let Some(node) = configuration.admitted(me) {
                    let configuration = configuration.clone();
                    self.standing = Standing::Named(node, configuration.clone());
                    out.send(Outbound::Record(node, configuration));
                } else if configuration.member_at(me.node).is_none() && !self.warned {
                    self.warned = true;
                    out.send(Outbound::Warn(format!(
                        "{} is no member of the group {configuration}, which has to add it first",
                        me.node
                    )));
                }
            }
            Standing::Named(..) | Standing::Gone => {}
            // W3. Lives only end, so this is true whoever says it, and for ever.
            Standing::Member(node) if last > node.life() => {
                let text = format!(
                    "{node} is a member no more: {}. Its directory is of no use to the group; set it \
                     aside, and start the node with an empty one to take part again",
                    match configuration.member_at(*node) {
                        Some(next) => format!("{next} has taken its place"),
                        None => "it was removed".to_string(),
                    }
                );
                self.standing = Standing::Gone;
                out.send(Outbound::Gone(text));
            }
            Standing::Member(node) => {
                let votes = configuration.voters.contains(node) && !configuration.is_joint();
                if votes || !self.is_later() {
                    self.settled = true;
                    out.cancel_timer(Timer::Again);
                }
            }
        }
    }
}

impl Core for Steward {
    type Inbound = Message;
    type Outbound = Outbound;
    type Timer = Timer;
    type Record = Never;

    fn on_message(&mut self, from: Name, message: Message, out: &mut Out<Self>) {
        match message {
            Message::Petition { incarnation, wants } => {
                self.on_petition(from.node, incarnation, wants, out);
            }
            Message::Told { configuration } => self.on_configuration(&configuration, out),
            Message::Configured(configuration) => {
                // A replica that is taken in knows nobody until it has caught up.
                if !configuration.voters.is_empty() {
                    self.on_configuration(&configuration, out);
                    (self.configuration, self.sure) = (configuration, true);
                }
            }
            Message::Begun(engine) => self.engine = Some(engine),
            Message::Recorded => {
                if let Standing::Named(node, configuration) = &self.standing {
                    let (node, configuration) = (*node, configuration.clone());
                    self.standing = Standing::Member(node);
                    out.send(Outbound::Begin(node, configuration));
                }
            }
        }
    }

    fn on_timer(&mut self, Timer::Again: Timer, out: &mut Out<Self>) {
        self.ask(out);
    }

    fn invariants(&self) {
        if let Standing::Named(node, configuration) = &self.standing {
            let admitted = configuration.admitted(self.config.me);
            assert_eq!(admitted, Some(*node), "W1: a name that was not given");
        }
    }
}
