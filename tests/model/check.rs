//! What has to hold in every state, and what has to be reached in some.

use rebilld::domain::charge::ChargeState;
use stateright::{Model, Property};

use super::config::{Config, Restore};
use super::state::{Backup, State, Status, Worker};
use super::steps::{Aged, Outcome, Reply, Step};

pub const ONE_PAYMENT: &str = "I1 at most one payment";
pub const CLOSED: &str = "I3 nothing closed as unpaid is paid, or can still be";
pub const ONE_ID: &str = "I7 no new id while an older send may arrive";
/// I2 and I4: what the ledger says is what the database comes to say, and nothing is left in between.
pub const SETTLES: &str = "when faults stop, everything settles";
/// Not of the protocol: the model has looked at every history, and cut none short.
const ROOM: &str = "the model's ledger has room";

impl Model for Config {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::start()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        self.steps(state, actions);
    }

    fn next_state(&self, state: &State, action: Step) -> Option<State> {
        self.step(state, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = vec![
            Property::always(ROOM, |_, state: &State| state.wire.is_empty() || !state.is_full()),
            Property::always(ONE_PAYMENT, |_, state: &State| state.payments() <= 1),
            Property::always("I2 booked as paid only what is paid", |_, state: &State| {
                let paid = |place: u8| state.ledger[usize::from(place)].status == Status::Paid;
                (state.row.state == ChargeState::Paid) == state.row.paid.is_some() && state.row.paid.is_none_or(paid)
            }),
            Property::always(CLOSED, |config: &Config, state| !config.closed_and_paid(state)),
            Property::always(ONE_ID, |config: &Config, state| config.one_id_under_way(state)),
            Property::always(SETTLES, |config: &Config, state| config.settles(state)),
            Property::sometimes("paid by its own answer", |_, state: &State| {
                state.row.state == ChargeState::Paid && state.row.newest == Some(0)
            }),
            Property::sometimes("a send is doubted that the gateway has yet to process", |_, state: &State| {
                state.row.state == ChargeState::Doubt && !state.wire.is_empty()
            }),
            Property::sometimes("a lost send is sent again", |_, state: &State| {
                state.row.live.is_some_and(|live| live.resends > 0)
            }),
            Property::sometimes("review", |_, state: &State| state.row.state == ChargeState::Review),
            Property::sometimes("two workers hold what only one may use", |_, state: &State| {
                state.workers.iter().all(|worker| matches!(worker, Worker::Ready { .. } | Worker::Begun { .. }))
            }),
        ];
        if self.declines > 1 {
            all.push(Property::sometimes("unpaid", |_, state: &State| state.row.state == ChargeState::Unpaid));
        }
        if self.restore != Restore::Never {
            all.push(Property::sometimes("restored, and paid before", |_, state: &State| {
                state.backup == Backup::Restored && state.row.state == ChargeState::Due && state.payments() == 1
            }));
        }
        all
    }
}

impl Config {
    fn closed_and_paid(&self, state: &State) -> bool {
        if !matches!(state.row.state, ChargeState::Unpaid | ChargeState::Void) {
            return false;
        }
        if self.restore != Restore::Never {
            // the restored database may not know better yet; that it learns of it is another property
            return false;
        }
        state.payments() > 0 || !state.wire.is_empty()
    }

    fn one_id_under_way(&self, state: &State) -> bool {
        let writing = state.workers.iter().filter_map(|worker| match worker {
            Worker::Begun { id, age, .. } if *age <= self.stall => Some(*id),
            _ => None,
        });
        let ids: Vec<u8> = state.wire.iter().map(|post| post.id).chain(writing).collect();
        ids.windows(2).all(|two| two[0] == two[1])
    }

    /// From a state in which nothing is under way: one worker, no faults, and the right end is reached.
    fn settles(&self, state: &State) -> bool {
        let at_rest = state.workers.iter().all(|worker| *worker == Worker::Idle) && !state.is_under_way();
        if !at_rest || state.payments() > 1 {
            return true;
        }
        let mut now = state.clone();
        for _ in 0..200 {
            let Some(next) = self.fair(&now) else { break };
            now = next;
        }
        let paid = now.payments() == 1;
        match now.row.state {
            ChargeState::Paid => paid,
            ChargeState::Unpaid | ChargeState::Void | ChargeState::Review => !paid,
            ChargeState::Due | ChargeState::Doubt => false,
        }
    }

    /// The next step of a world without faults, in which cards pay. `None`: it has come to its end.
    fn fair(&self, state: &State) -> Option<State> {
        let mut steps = Vec::new();
        self.steps(state, &mut steps);
        let usual = |step: &&Step| match step {
            Step::Crash(_) | Step::Lose(_) | Step::CloseGate(_) | Step::GiveUp(..) | Step::Backup | Step::Restore => false,
            Step::Record(_, age) | Step::Conclude(_, age) => *age == Aged::Fresh,
            Step::Process(_, outcome, reply) => *reply == Reply::Arrives && matches!(outcome, Outcome::Paid | Outcome::Refused),
            Step::Settle(_, status) => *status == Status::Paid,
            _ => true,
        };
        let closed = matches!(state.row.state, ChargeState::Review | ChargeState::Unpaid | ChargeState::Void);
        let young = state.row.newest.is_some_and(|age| age < self.quiet + self.look);
        let busy = state.workers.iter().any(|worker| *worker != Worker::Idle);
        let step = match state.row.state {
            ChargeState::Paid => return None,
            // what is closed is looked up once, when all that was sent shows
            _ if !busy && !young && steps.contains(&Step::Audit) => Step::Audit,
            _ if closed && !busy && young => Step::Tick,
            _ if closed && !busy => Step::Look(0),
            _ if !busy && state.hold > 0 => Step::Tick,
            ChargeState::Doubt if !busy && young => Step::Tick,
            _ => *steps
                .iter()
                .filter(usual)
                .find(|step| **step != Step::Tick)
                .or(steps.iter().find(|step| **step == Step::Tick))?,
        };
        let next = self.step(state, step)?;
        let judged = matches!(step, Step::Conclude(..)) && closed && next.row == state.row_without_claim();
        (!judged).then_some(next)
    }
}

impl State {
    fn row_without_claim(&self) -> super::state::Row {
        super::state::Row { claim: None, ..self.row.clone() }
    }
}
