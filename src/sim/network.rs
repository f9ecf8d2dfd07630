//! Network: what happens to a message between two machines.

use super::dice::Dice;
use super::plan::Weather;

/// Links between machines.
pub struct Network<T> {
    places: usize,
    cut: Vec<bool>,
    clogged: Vec<bool>,
    /// Messages on clogged links: sender, receiver, message.
    held: Vec<(usize, usize, T)>,
    weather: Weather,
}

impl<T: Clone> Network<T> {
    /// A whole network of so many machines.
    pub fn new(places: usize, weather: Weather) -> Self {
        Self { places, cut: vec![false; places * places], clogged: vec![false; places], held: Vec::new(), weather }
    }
    /// The delays after which copies of the message arrive: none if it is lost or held back.
    pub fn send(&mut self, dice: &mut Dice, from: usize, to: usize, message: &T) -> Vec<u64> {
        if self.cut[from * self.places + to] || dice.permille(self.weather.loss) {
            return Vec::new();
        }
        if self.clogged[from] || self.clogged[to] {
            self.held.push((from, to, message.clone()));
            return Vec::new();
        }
        let mut arrivals = vec![self.delay(dice)];
        if dice.permille(self.weather.duplicate) {
            arrivals.push(self.delay(dice) + self.delay(dice));
        }
        arrivals
    }
    /// The delay of one message.
    pub fn delay(&self, dice: &mut Dice) -> u64 {
        let (low, high) = self.weather.delay;
        let high = if dice.permille(self.weather.late) { high * 20 } else { high };
        dice.between(low, high)
    }
    /// These ordered pairs cannot talk, all others can.
    pub fn partition(&mut self, cut: &[(usize, usize)]) {
        self.cut.fill(false);
        cut.iter().for_each(|(from, to)| self.cut[from * self.places + to] = true);
    }
    /// Holds back messages to and from a machine.
    pub fn clog(&mut self, place: usize) {
        self.clogged[place] = true;
    }
    /// Lets them go. Gives those that no clogged machine holds back any more.
    pub fn unclog(&mut self, place: usize) -> Vec<(usize, usize, T)> {
        self.clogged[place] = false;
        let clogged = &self.clogged;
        let (go, held) = self.held.drain(..).partition(|(from, to, _)| !clogged[*from] && !clogged[*to]);
        self.held = held;
        go
    }
    /// All faults end. Gives what was held back.
    pub fn heal(&mut self, weather: Weather) -> Vec<(usize, usize, T)> {
        self.cut.fill(false);
        self.clogged.fill(false);
        self.weather = weather;
        std::mem::take(&mut self.held)
    }
}
