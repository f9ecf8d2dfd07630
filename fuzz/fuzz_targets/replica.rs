//! A replica that hears one Byzantine validator: whatever it signs, and whenever timers end, nothing panics and
//! nothing is sent that no record on disk covers.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use trullo::consensus::{Action, Event, Replica, Resume, Timer, Verdict, Verifier, VerifyError};
use trullo::types::{Millis, limits::CONSENSUS_MESSAGE_BYTES_MAX};
use trullo::wire::{Message, decode, encode};
use trullo_fuzz::{edited, sample};

static SAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| sample::messages().iter().map(encode).collect());
/// The Byzantine validator, and the replica.
const LIAR: usize = 3;
const ME: usize = 0;
/// Events of one input: enough for some views, and an input is quick.
const EVENTS_MAX: usize = 64;

struct Shell {
    replica: Replica,
    verifier: Verifier,
    queue: Vec<Event>,
    persisted: bool,
}

impl Shell {
    fn run(&mut self, now: Millis) {
        let mut done = 0;
        while let Some(event) = self.queue.pop() {
            done += 1;
            if done > EVENTS_MAX {
                return self.queue.clear();
            }
            for action in self.replica.on(event, now) {
                self.perform(action);
            }
        }
    }
    fn perform(&mut self, action: Action) {
        match action {
            Action::Persist { .. } => self.persisted = true,
            Action::Check(block) => {
                let verdict = if block.block.header.reveal[0] & 1 == 1 { Verdict::Valid } else { Verdict::Invalid };
                self.queue.push(Event::Checked { block: block.block.hash(), verdict });
            }
            Action::Broadcast(unsigned) => {
                assert!(self.persisted, "a record is on disk before anything is signed");
                let message = unsigned.sign(&sample::chain(), &sample::keys()[ME]);
                self.queue.push(Event::Received { from: sample::keys()[ME].public().node_id(), message });
            }
            _ => {}
        }
    }
    fn hear(&mut self, message: Message) {
        let from = sample::keys()[LIAR].public().node_id();
        match self.verifier.verify(message) {
            Ok(message) => self.queue.push(Event::Received { from, message }),
            Err(VerifyError::LaterEpoch { height, .. }) => self.queue.push(Event::Ahead { from, height }),
            Err(_) => {}
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let (config, context) = sample::replica(ME);
    let verifier = Verifier::new(&config, &context);
    let resume = Resume { record: None, blocks: Vec::new(), last_final: sample::opening(), silent_until: None };
    let replica = Replica::new(config, context, resume);
    let mut shell = Shell { replica, verifier, queue: vec![Event::Start], persisted: false };
    shell.run(Millis::ZERO);
    let mut now = 0_u64;
    for step in data.chunks(17).take(EVENTS_MAX) {
        let [what, later, edits @ ..] = step else { break };
        now += u64::from(*later) * 16;
        match usize::from(*what) % (SAMPLES.len() + 5) {
            0 => shell.queue.push(Event::Expired(Timer::View)),
            1 => shell.queue.push(Event::Expired(Timer::Repeat)),
            2 => shell.queue.push(Event::Expired(Timer::Idle)),
            3 => shell.queue.push(Event::Expired(Timer::Fetch)),
            4 => shell.queue.push(Event::Waiting(*later & 1 == 1)),
            n => {
                let bytes = edited(SAMPLES[n - 5].clone(), edits);
                let Ok(message) = decode::<Message>(&bytes, CONSENSUS_MESSAGE_BYTES_MAX) else { continue };
                shell.hear(sample::signed_again(message, LIAR));
            }
        }
        shell.run(Millis::new(now));
    }
});
