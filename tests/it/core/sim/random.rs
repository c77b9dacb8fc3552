//! Everything at once, at random: the invariants of [`crate::core::sim::world`] hold over every
//! history.

use crate::core::sim::provider::{Key, Mode, made_up};
use crate::core::sim::world::{World, both, get, items, millis, pay, secs, without_discovery};
use m2m_auth::rng::Rng;
use serde_json::{Value, json};
use std::time::Duration;

const WORLDS: u64 = 40;
const STEPS: usize = 600;

struct History {
    world: World,
    dice: Rng,
    next_key: u8,
    kept: Vec<String>,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut dice = Rng::new(seed);
        let mut configuration = both();
        if dice.next_u64().is_multiple_of(2) {
            configuration = without_discovery(configuration);
        }
        configuration["issuers"]["idp"]["jwks_max_stale"] = ["5m", "20m", "24h"][index(&mut dice, 3)].into();
        configuration["outbound"]["rules"][0]["unavailable"] =
            ["hold", "fail", "danger_pass"][index(&mut dice, 3)].into();
        configuration["pending_requests"]["max"] = [3, 20, 1000][index(&mut dice, 3)].into();
        Self { world: World::seeded(&configuration, seed), dice, next_key: 2, kept: Vec::new() }
    }

    fn roll(&mut self, sides: usize) -> usize {
        index(&mut self.dice, sides)
    }

    fn span(&mut self, most: Duration) -> Duration {
        self.dice.duration_up_to(most)
    }

    fn step(&mut self) {
        match self.roll(40) {
            0..=9 => self.request(),
            10..=13 => drop(self.world.send(&pay())),
            14 => self.cancel(),
            15 => self.rotate(),
            16 => self.change_provider(),
            17 | 18 => self.world.provider.all(&Mode::Works),
            19 => self.world.provider.latency = self.span(millis(800)),
            20 => self.change_life(),
            21 => self.upstream_refuses(),
            22 => self.world.wall_step += [-3600, 3600, -1, 1][self.roll(4)],
            23..=34 => {
                let span = self.span(millis(300));
                self.world.pass(span);
            }
            35..=38 => {
                let span = self.span(secs(20));
                self.world.pass(span);
            }
            _ => {
                let span = self.span(secs(600));
                self.world.pass(span);
            }
        }
    }

    fn request(&mut self) {
        let token = match self.roll(8) {
            0 => made_up(&format!("made-up-{}", self.roll(50))),
            1 => {
                let key = self.world.provider.published[0].clone();
                self.world.mint(&key, 300, "another-service")
            }
            2 => {
                let key = self.world.provider.published[0].clone();
                let life = i64::try_from(self.roll(600)).unwrap() - 100;
                self.world.mint(&key, life, "inventory-service")
            }
            3..=5 if !self.kept.is_empty() => {
                let which = self.roll(self.kept.len());
                self.kept[which].clone()
            }
            _ => {
                let token = self.world.token();
                self.kept.push(token.clone());
                token
            }
        };
        let mut get = if self.roll(10) == 0 { get("/public/x") } else { items(&token) };
        if self.roll(3) == 0 {
            get = get.host("payment");
        }
        self.world.send(&get);
    }

    fn cancel(&mut self) {
        let waiting: Vec<_> = self.world.waiting().collect();
        if !waiting.is_empty() {
            let which = self.roll(waiting.len());
            self.world.cancel(waiting[which]);
        }
    }

    /// A new key is published, or the oldest is withdrawn.
    fn rotate(&mut self) {
        let published = &mut self.world.provider.published;
        if published.len() < 3 {
            published.push(Key::number(self.next_key));
            self.next_key = self.next_key.wrapping_add(1);
        } else {
            published.remove(0);
        }
    }

    fn change_provider(&mut self) {
        let mode = match self.roll(10) {
            0 => Mode::Silent,
            1 => Mode::Resets,
            2 => Mode::retry_after(503, "40"),
            3 => Mode::retry_after(429, "100000"),
            4 => Mode::json(401, &json!({ "error": "invalid_client" })),
            5 => Mode::json(200, &json!({ "keys": [], "access_token": "", "token_type": "Bearer" })),
            6 => Mode::NoCluster,
            7 => Mode::Late(self.span(secs(20))),
            8 => Mode::status(404),
            _ => Mode::status(500),
        };
        match self.roll(4) {
            0 => self.world.provider.keys = mode,
            1 => self.world.provider.tokens = mode,
            2 => self.world.provider.metadata = mode,
            _ => self.world.provider.all(&mode),
        }
    }

    fn change_life(&mut self) {
        let lives = [
            json!(1),
            json!(5),
            json!(300),
            json!("60"),
            Value::Null,
            json!(0),
            json!(-1),
            json!(1e300),
            json!(30.5),
        ];
        self.world.provider.expires_in = lives[self.roll(lives.len())].clone();
    }

    fn upstream_refuses(&mut self) {
        let sent = self
            .world
            .outcomes()
            .filter(|outcome| outcome.status() == 200)
            .filter_map(|outcome| outcome.edits().attached_token.clone());
        if let Some(sent) = sent.last() {
            self.world.upstream_refuses(&sent);
        }
    }

    /// The provider works again; by the longest wait that there is, everything does.
    fn heal(&mut self) {
        self.world.provider.all(&Mode::Works);
        self.world.provider.latency = millis(20);
        self.world.provider.expires_in = json!(300);
        self.world.pass(secs(302) * 2);
        let get = items(&self.world.token());
        assert_eq!(self.world.ask(&get).status(), 200, "an inbound request after all is well again");
        let outcome = self.world.ask(&pay());
        assert!(outcome.edits().attached_token.is_some(), "an outbound one");
        assert_eq!(self.world.waiting().len(), 0);
    }
}

fn index(dice: &mut Rng, sides: usize) -> usize {
    usize::try_from(dice.next_u64() % u64::try_from(sides).unwrap()).unwrap()
}

#[test]
fn the_laws_hold_over_every_history() {
    for seed in 0..WORLDS {
        let run = std::panic::catch_unwind(|| {
            let mut history = History::new(seed);
            (0..STEPS).for_each(|_| history.step());
            history.heal();
        });
        assert!(run.is_ok(), "in the history of seed {seed}");
    }
}
