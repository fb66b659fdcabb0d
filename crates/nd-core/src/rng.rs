//! Random numbers without a state: any number can be computed from its place alone.
//!
//! In its simple form this is Threefry-4x32 with 20 rounds (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as
//! easy as 1, 2, 3", SC 2011): a keyed bijection of a 128-bit counter that passes BigCrush. The key is
//! `(seed, step, op)` and the counter is `(window, element)`. So dropout is the same whatever the shards or threads,
//! and its backward pass computes the mask again instead of storing it.
//! The trick: a vector of counters runs side by side, and word `w` of counter `j` serves element `16 w + j` of its chunk
//! whatever the length of a vector, so no transposition is needed.
//! Known weakness: about 130 operations per vector of results; a stateful generator needs a tenth, and cannot do this.

use pulp::Simd;

use crate::element::Real;
use crate::options::SimdLevel;

/// Counters that run side by side.
const LANES: usize = 16;
/// Elements that one run of the side-by-side counters serves.
const CHUNK: usize = 4 * LANES;
/// The key schedule's parity constant (Threefish, Skein 1.3).
const PARITY: u32 = 0x1BD1_1BDA;
/// Rotations by round modulo 8, for the words `(0, 1)` and `(2, 3)` (the paper's table for 4x32).
const ROTATIONS: [[u32; 2]; 8] = [
    [10, 26],
    [11, 21],
    [13, 27],
    [23, 5],
    [6, 20],
    [17, 11],
    [25, 10],
    [18, 20],
];
const ROUNDS: usize = 20;

/// What random numbers are for: a seed, a training step and an op within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Key {
    /// The run's seed.
    pub seed: u64,
    /// The training step, or a number of the caller's that takes its place.
    pub step: u32,
    /// The random op within the step, in the order of the forward pass.
    pub op: u32,
}

impl Key {
    /// The key of step 0, op 0.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            step: 0,
            op: 0,
        }
    }

    fn words(self) -> [u32; 4] {
        [
            self.seed as u32,
            (self.seed >> 32) as u32,
            self.step,
            self.op,
        ]
    }
}

/// Rotates every lane to the left.
trait Rotate: Simd {
    fn rotate(self, x: Self::u32s, by: u32) -> Self::u32s;
}

macro_rules! rotate_with_shifts {
    ($($simd:ty),*) => {$(
        impl Rotate for $simd {
            #[inline(always)]
            fn rotate(self, x: Self::u32s, by: u32) -> Self::u32s {
                let high = self.wrapping_dyn_shl_u32s(x, self.splat_u32s(by));
                let low = self.wrapping_dyn_shr_u32s(x, self.splat_u32s(32 - by));
                self.or_u32s(high, low)
            }
        }
    )*};
}

rotate_with_shifts!(pulp::Scalar);
#[cfg(target_arch = "x86_64")]
rotate_with_shifts!(pulp::x86::V3);
#[cfg(target_arch = "aarch64")]
rotate_with_shifts!(pulp::aarch64::Neon);

/// AVX-512 has an instruction for it, which compilers do not find by themselves here.
#[cfg(target_arch = "x86_64")]
impl Rotate for pulp::x86::V4 {
    #[inline(always)]
    fn rotate(self, x: Self::u32s, by: u32) -> Self::u32s {
        let by = self.splat_u32s(by);
        pulp::cast(
            self.avx512f
                ._mm512_rolv_epi32(pulp::cast(x), pulp::cast(by)),
        )
    }
}

/// One mixing step of the words `a` and `b` of all lanes.
#[inline(always)]
fn mix<S: Rotate>(simd: S, rotation: u32, a: &mut S::u32s, b: &mut S::u32s) {
    *a = simd.add_u32s(*a, *b);
    *b = simd.xor_u32s(simd.rotate(*b, rotation), *a);
}

/// A vector of counters: word 2 of the counters is `counter[2] + lane`. Words come back in vectors.
#[inline(always)]
fn threefry<S: Rotate>(simd: S, key: [u32; 4], counter: [u32; 4]) -> [S::u32s; 4] {
    let schedule = [
        key[0],
        key[1],
        key[2],
        key[3],
        PARITY ^ key[0] ^ key[1] ^ key[2] ^ key[3],
    ];
    let places: [u32; LANES] = std::array::from_fn(|lane| lane as u32);
    let places = S::as_simd_u32s(&places).0[0];
    let start = |word: usize| simd.splat_u32s(counter[word].wrapping_add(schedule[word]));
    let [mut x0, mut x1, mut x3] = [start(0), start(1), start(3)];
    let mut x2 = simd.add_u32s(start(2), places);
    for injection in 1..=ROUNDS / 4 {
        // Four rounds; the words are paired (0,1)(2,3) in even rounds and (0,3)(2,1) in odd ones.
        let [first, second, third, fourth] = if injection % 2 == 1 {
            const { [ROTATIONS[0], ROTATIONS[1], ROTATIONS[2], ROTATIONS[3]] }
        } else {
            const { [ROTATIONS[4], ROTATIONS[5], ROTATIONS[6], ROTATIONS[7]] }
        };
        for [even, odd] in [[first, second], [third, fourth]] {
            mix(simd, even[0], &mut x0, &mut x1);
            mix(simd, even[1], &mut x2, &mut x3);
            mix(simd, odd[0], &mut x0, &mut x3);
            mix(simd, odd[1], &mut x2, &mut x1);
        }
        let key = |word: usize| schedule[(injection + word) % 5];
        x0 = simd.add_u32s(x0, simd.splat_u32s(key(0)));
        x1 = simd.add_u32s(x1, simd.splat_u32s(key(1)));
        x2 = simd.add_u32s(x2, simd.splat_u32s(key(2)));
        x3 = simd.add_u32s(x3, simd.splat_u32s(key(3).wrapping_add(injection as u32)));
    }
    [x0, x1, x2, x3]
}

/// The chunk of numbers that starts at element `CHUNK * chunk` of a window.
#[inline(always)]
fn random_chunk<S: Rotate>(
    simd: S,
    key: [u32; 4],
    window: u64,
    chunk: u64,
    out: &mut [u32; CHUNK],
) {
    let lanes = S::U32_LANES;
    for column in (0..LANES).step_by(lanes) {
        let first = chunk * LANES as u64 + column as u64;
        let counter = [
            window as u32,
            (window >> 32) as u32,
            first as u32,
            (first >> 32) as u32,
        ];
        for (word, x) in threefry(simd, key, counter).into_iter().enumerate() {
            let place = word * LANES + column;
            S::as_mut_simd_u32s(&mut out[place..place + lanes]).0[0] = x;
        }
    }
}

struct Fill<'a> {
    key: [u32; 4],
    window: u64,
    first: u64,
    out: &'a mut [u32],
}

impl Fill<'_> {
    #[inline(always)]
    fn run<S: Rotate>(self, simd: S) {
        let Self {
            key,
            window,
            first,
            out,
        } = self;
        let mut chunk = first / CHUNK as u64;
        let skip = (first % CHUNK as u64) as usize;
        let mut part = [0; CHUNK];
        let head = if skip == 0 {
            0
        } else {
            (CHUNK - skip).min(out.len())
        };
        let (head, rest) = out.split_at_mut(head);
        if !head.is_empty() {
            random_chunk(simd, key, window, chunk, &mut part);
            head.copy_from_slice(&part[skip..skip + head.len()]);
            chunk += 1;
        }
        let (whole, tail) = rest.as_chunks_mut::<CHUNK>();
        for out in whole {
            random_chunk(simd, key, window, chunk, out);
            chunk += 1;
        }
        if !tail.is_empty() {
            random_chunk(simd, key, window, chunk, &mut part);
            tail.copy_from_slice(&part[..tail.len()]);
        }
    }

    /// [`Fill::run`] with the instructions of a level; the same numbers with any.
    fn dispatch(self, level: SimdLevel) {
        match level {
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx512 if let Some(simd) = pulp::x86::V4::try_new() => {
                simd.vectorize(FillWith(simd, self));
            }
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx2 if let Some(simd) = pulp::x86::V3::try_new() => {
                simd.vectorize(FillWith(simd, self));
            }
            #[cfg(target_arch = "aarch64")]
            SimdLevel::Neon if let Some(simd) = pulp::aarch64::Neon::try_new() => {
                simd.vectorize(FillWith(simd, self));
            }
            _ => self.run(pulp::Scalar),
        }
    }
}

/// [`Fill::run`] with an instruction set, within code that is compiled for it.
struct FillWith<'a, S>(S, Fill<'a>);

impl<S: Rotate> pulp::NullaryFnOnce for FillWith<'_, S> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.1.run(self.0);
    }
}

/// Fills `out` with the random words of elements `first ..` of a window.
///
/// The word of an element depends on the key, the window and the element alone: not on `first`, on the length of `out`,
/// on the SIMD level or on a thread.
pub fn fill(level: SimdLevel, key: Key, window: u64, first: usize, out: &mut [u32]) {
    let fill = Fill {
        key: key.words(),
        window,
        first: first as u64,
        out,
    };
    fill.dispatch(level);
}

/// Where a [`Stream`] stands; enough to go on from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamPosition {
    /// What the numbers are for.
    pub key: Key,
    /// Words drawn so far.
    pub drawn: u64,
}

/// Random numbers one after the other, for sampling and initialisation.
#[derive(Clone, Debug)]
pub struct Stream {
    position: StreamPosition,
    chunk: [u32; CHUNK],
}

/// The window that a stream counts in; no window of a batch reaches it.
const STREAM_WINDOW: u64 = u64::MAX;

impl Stream {
    /// The stream of a key from its beginning.
    #[must_use]
    pub fn new(key: Key) -> Self {
        Self::resume(StreamPosition { key, drawn: 0 })
    }

    /// The stream from a position that [`Stream::position`] gave.
    #[must_use]
    pub fn resume(position: StreamPosition) -> Self {
        let mut stream = Self {
            position,
            chunk: [0; CHUNK],
        };
        stream.refill();
        stream
    }

    /// Where the stream stands.
    #[must_use]
    pub fn position(&self) -> StreamPosition {
        self.position
    }

    fn refill(&mut self) {
        let StreamPosition { key, drawn } = self.position;
        let fill = Fill {
            key: key.words(),
            window: STREAM_WINDOW,
            first: drawn - drawn % CHUNK as u64,
            out: &mut self.chunk,
        };
        fill.dispatch(SimdLevel::current());
    }

    /// 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        let at = (self.position.drawn % CHUNK as u64) as usize;
        let word = self.chunk[at];
        self.position.drawn += 1;
        if at + 1 == CHUNK {
            self.refill();
        }
        word
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let low = u64::from(self.next_u32());
        low | u64::from(self.next_u32()) << 32
    }

    /// Words that a number of [`Stream::uniform`] takes.
    pub const UNIFORM_WORDS: usize = 2;
    /// Words that a number of [`Stream::normal`] takes.
    pub const NORMAL_WORDS: usize = 4;

    /// A uniform number in `[0, 1)`.
    pub fn uniform<R: Real>(&mut self) -> R {
        R::unit_from_bits(self.next_u64())
    }

    /// A standard normal number (Box and Muller 1958; the second of the pair is not kept, so that every draw takes the
    /// same number of words).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform::<f64>()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform::<f64>()).cos()
    }

    /// A uniform index below `n`, without bias (Lemire, "Fast random integer generation in an interval", 2019).
    ///
    /// # Panics
    /// `n` is zero.
    #[track_caller]
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "an index below 0 was asked for");
        loop {
            let wide = u128::from(self.next_u64()) * u128::from(n);
            if (wide as u64) >= n.wrapping_neg() % n {
                return (wide >> 64) as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counter and key words in, words out: the known answers published with the reference implementation (Random123).
    #[test]
    fn known_answers() {
        let one = |counter, key| threefry(pulp::Scalar, key, counter);
        assert_eq!(
            one([0; 4], [0; 4]),
            [0x9c6c_a96a, 0xe17e_ae66, 0xfc10_ecd4, 0x5256_a7d8]
        );
        assert_eq!(
            one([u32::MAX; 4], [u32::MAX; 4]),
            [0x2a88_1696, 0x5701_2287, 0xf6c7_446e, 0xa16a_6732]
        );
        assert_eq!(
            one(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0, 0x082e_fa98, 0xec4e_6c89]
            ),
            [0x59cd_1dbb, 0xb887_9579, 0x86b5_d00c, 0xac8b_6d84]
        );
    }

    #[test]
    fn a_number_depends_on_its_place_alone() {
        let key = Key {
            seed: 7,
            step: 3,
            op: 2,
        };
        let mut whole = vec![0; 1000];
        fill(SimdLevel::Scalar, key, 11, 0, &mut whole);
        for level in SimdLevel::supported() {
            for (first, len) in [
                (0, 1),
                (1, 63),
                (63, 2),
                (64, 64),
                (65, 200),
                (999, 1),
                (5, 0),
            ] {
                let mut part = vec![0; len];
                fill(level, key, 11, first, &mut part);
                assert_eq!(part, whole[first..first + len], "{level} at {first}");
            }
        }
        let mut other = vec![0; 1000];
        fill(SimdLevel::Scalar, key, 12, 0, &mut other);
        assert!(whole.iter().zip(&other).filter(|(a, b)| a == b).count() < 2);
    }

    #[test]
    fn uniform_numbers_have_the_moments_of_the_uniform_law() {
        let mut stream = Stream::new(Key::new(1));
        let n = 200_000;
        let (mut sum, mut squares, mut normals) = (0.0, 0.0, 0.0);
        for _ in 0..n {
            let x: f64 = stream.uniform();
            sum += x;
            squares += x * x;
            let z = stream.normal();
            normals += z * z;
        }
        let n = f64::from(n);
        // Five standard errors of each mean.
        assert!((sum / n - 0.5).abs() < 5.0 * (1.0f64 / 12.0).sqrt() / n.sqrt());
        assert!((squares / n - 1.0 / 3.0).abs() < 5.0 * (4.0f64 / 45.0).sqrt() / n.sqrt());
        assert!((normals / n - 1.0).abs() < 5.0 * 2.0f64.sqrt() / n.sqrt());
    }

    #[test]
    fn indices_are_uniform() {
        let mut stream = Stream::new(Key::new(2));
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[stream.below(7) as usize] += 1;
        }
        let chi2: f64 = counts
            .iter()
            .map(|&c| (f64::from(c) - 1e4).powi(2) / 1e4)
            .sum();
        assert!(chi2 < 22.5, "chi-squared of 6 degrees, p = 0.001: {chi2}");
    }

    #[test]
    fn a_stream_is_what_fill_gives_for_its_window() {
        let key = Key::new(4);
        let mut words = vec![0; 5 * CHUNK];
        fill(SimdLevel::Scalar, key, STREAM_WINDOW, 0, &mut words);
        let mut stream = Stream::new(key);
        assert!(words.iter().all(|&word| stream.next_u32() == word));
    }

    #[test]
    fn numbers_take_as_many_words_as_is_said() {
        let mut stream = Stream::new(Key::new(5));
        stream.uniform::<f32>();
        stream.uniform::<f64>();
        assert_eq!(stream.position().drawn, 2 * Stream::UNIFORM_WORDS as u64);
        stream.normal();
        let drawn = 2 * Stream::UNIFORM_WORDS + Stream::NORMAL_WORDS;
        assert_eq!(stream.position().drawn, drawn as u64);
    }

    #[test]
    fn a_stream_resumes_where_it_stood() {
        let mut stream = Stream::new(Key::new(3));
        for _ in 0..(CHUNK - 1) {
            stream.next_u32();
        }
        let mut resumed = Stream::resume(stream.position());
        for _ in 0..(2 * CHUNK) {
            assert_eq!(stream.next_u32(), resumed.next_u32());
        }
    }
}
