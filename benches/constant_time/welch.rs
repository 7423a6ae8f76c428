//! Draws which class comes next, times both, and says how far apart they are.

use std::io::Write as _;

/// Pseudo-random numbers: which class comes next must follow no pattern that a processor could learn.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 8
    }

    pub(crate) fn toss(&mut self) -> bool {
        self.roll() >> 25 & 1 == 1
    }
}

/// Times both classes in random order, `samples` of each or nearly so.
pub(crate) fn duel(samples: usize, mut time: impl FnMut(bool) -> f64) -> [Vec<f64>; 2] {
    let mut coin = Dice(0xD1B5_4A32_D192_ED03);
    let mut times = [Vec::with_capacity(samples), Vec::with_capacity(samples)];
    for _ in 0..samples / 50 {
        time(coin.toss());
    }
    for _ in 0..2 * samples {
        let class = coin.toss();
        let taken = time(class);
        times[usize::from(class)].push(taken);
    }
    times
}

/// Both classes without what lies above the pooled ninetieth percentile: interrupts, not work.
pub(crate) fn cropped([a, b]: &[Vec<f64>; 2]) -> [Vec<f64>; 2] {
    let mut pooled: Vec<f64> = a.iter().chain(b).copied().collect();
    pooled.sort_by(f64::total_cmp);
    let limit = pooled[pooled.len() * 9 / 10];
    [a, b].map(|x| x.iter().copied().filter(|v| *v <= limit).collect())
}

/// What is kept of a class's times.
#[derive(Clone, Copy)]
pub(crate) struct Moments {
    count: f64,
    mean: f64,
    /// The mean's variance.
    variance: f64,
}

impl Moments {
    pub(crate) fn of(times: &[f64]) -> Self {
        let count = times.len() as f64;
        let mean = times.iter().sum::<f64>() / count;
        let squares = times.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
        Self { count, mean, variance: squares / (count - 1.0) / count }
    }

    pub(crate) fn told(self) -> String {
        format!("{} {} {}", self.count, self.mean, self.variance)
    }

    pub(crate) fn read(numbers: &[f64]) -> Self {
        Self { count: numbers[0], mean: numbers[1], variance: numbers[2] }
    }
}

/// What one process found out about one pair: both classes, and both cropped.
pub(crate) type Found = [Moments; 4];

/// Welch's t of what the processes found, of each half of their time.
fn welch(pairs: &[[Moments; 2]]) -> f64 {
    let difference: f64 = pairs.iter().map(|[a, b]| a.mean - b.mean).sum();
    let variance: f64 = pairs.iter().map(|[a, b]| a.variance + b.variance).sum();
    difference / variance.sqrt()
}

/// The mean, and its standard error over the processes.
fn spread(figures: &[f64]) -> (f64, f64) {
    let Moments { mean, variance, .. } = Moments::of(figures);
    (mean, variance.sqrt())
}

pub(crate) fn report(name: &str, found: &[Found]) {
    let whole: Vec<_> = found.iter().map(|[a, b, ..]| [*a, *b]).collect();
    let cropped: Vec<_> = found.iter().map(|[_, _, a, b]| [*a, *b]).collect();
    let differences: Vec<_> = cropped.iter().map(|[a, b]| a.mean - b.mean).collect();
    let (mean, _) = spread(&cropped.iter().map(|[a, _]| a.mean).collect::<Vec<_>>());
    let (difference, error) = spread(&differences);
    let least = differences.iter().copied().fold(f64::INFINITY, f64::min);
    let most = differences.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let count: f64 = whole.iter().map(|[a, b]| a.count + b.count).sum();
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{name:62} t {:8.2}   cropped t {:8.2}   {mean:8.1} ns   apart {difference:7.2} ± {error:4.2} ns ({least:.2} to {most:.2})   n {count}",
        welch(&whole),
        welch(&cropped),
    )
    .unwrap();
}
