//! Parameters: one flat aligned allocation with a table of names and shapes beside it.
//!
//! A network declares what it needs through a [`ParamsBuilder`] and keeps the [`ParamId`]s; the values stand beside
//! it in [`Params`], so a network is shared by threads and the trainer owns the weights. Gradients and optimizer
//! moments have the same layout, so the optimizer, clipping, the finite check and the checkpoint are single passes.
//!
//! The order in memory: decayed weights, other weights, buffers, frozen values. Every parameter starts at a 64-byte
//! boundary; the gaps are zero, in the gradients too, so passes over the whole range leave them zero.

use std::sync::Arc;

use super::init::Init;
use super::pack::PackCache;
use crate::buffer::Buffer;
use crate::element::Real;
use crate::error::CoreError;
use crate::shape::Shape;

/// Elements between the starts of two parameters are a multiple of this: 64 bytes of f32.
const SLOT: usize = 16;

/// A parameter of a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParamId(u32);

impl ParamId {
    /// Its place in [`ParamLayout::entries`].
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What becomes of a parameter during training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ParamKind {
    /// Moved by the optimizer, with weight decay where that is on.
    Trainable,
    /// Moved by the optimizer, never decayed.
    TrainableNoDecay,
    /// State of the network that the forward pass updates once a step, such as batch-norm statistics.
    Buffer,
    /// Constant, such as a basis.
    Frozen,
}

impl ParamKind {
    /// Moved by the optimizer.
    #[must_use]
    pub fn is_trainable(self) -> bool {
        matches!(self, Self::Trainable | Self::TrainableNoDecay)
    }
}

/// One parameter of a layout.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamEntry {
    /// Its unique name, levels separated by dots.
    pub name: String,
    /// Its shape.
    pub shape: Shape,
    /// What becomes of it.
    pub kind: ParamKind,
    /// The first element in the flat allocation.
    pub offset: usize,
    /// Where initial values come from.
    pub init: Init,
    /// The parameter whose memory this one shares.
    pub tied_to: Option<ParamId>,
}

/// Names, shapes and places of a network's parameters.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ParamLayout {
    entries: Vec<ParamEntry>,
    decayed: usize,
    trainable: usize,
    len: usize,
}

impl ParamLayout {
    /// Every parameter in the order of its declaration, tied ones included.
    #[must_use]
    pub fn entries(&self) -> &[ParamEntry] {
        &self.entries
    }

    /// The entry of a parameter.
    #[must_use]
    pub fn entry(&self, id: ParamId) -> &ParamEntry {
        &self.entries[id.index()]
    }

    /// Every id in the order of declaration.
    pub fn ids(&self) -> impl Iterator<Item = ParamId> + use<> {
        (0..self.entries.len() as u32).map(ParamId)
    }

    /// The parameter with this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ParamId> {
        self.ids().find(|&id| self.entry(id).name == name)
    }

    /// The parameter whose memory `id` uses: itself unless it is tied.
    #[must_use]
    pub fn owner(&self, id: ParamId) -> ParamId {
        self.entry(id).tied_to.unwrap_or(id)
    }

    /// Elements of the flat allocation.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no parameters.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Elements at the start of the allocation that the optimizer moves.
    #[must_use]
    pub fn trainable_len(&self) -> usize {
        self.trainable
    }

    /// Elements at the start of the allocation that weight decay touches.
    #[must_use]
    pub fn decayed_len(&self) -> usize {
        self.decayed
    }

    /// The number of trainable values, gaps and tied copies not counted.
    #[must_use]
    pub fn trainable_count(&self) -> usize {
        let owned = self.entries.iter().filter(|entry| entry.tied_to.is_none());
        owned
            .filter(|entry| entry.kind.is_trainable())
            .map(|entry| entry.shape.numel())
            .sum()
    }

    /// The range of a parameter in the flat allocation.
    #[must_use]
    pub fn range(&self, id: ParamId) -> std::ops::Range<usize> {
        let entry = self.entry(self.owner(id));
        entry.offset..entry.offset + entry.shape.numel()
    }
}

/// Collects the parameters that a network declares.
///
/// Names are built from [`ParamsBuilder::scope`]s: inside `scope("encoder")`, the parameter `"weight"` is
/// `"encoder.weight"`.
#[derive(Debug, Default)]
pub struct ParamsBuilder {
    entries: Vec<ParamEntry>,
    prefix: String,
}

impl ParamsBuilder {
    /// No parameters yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares what `declare` needs under a common prefix.
    pub fn scope<T>(&mut self, name: &str, declare: impl FnOnce(&mut Self) -> T) -> T {
        let outer = self.prefix.len();
        self.prefix.push_str(name);
        self.prefix.push('.');
        let out = declare(self);
        self.prefix.truncate(outer);
        out
    }

    /// Declares a parameter.
    ///
    /// # Panics
    /// The name was used before, or given initial values do not fill the shape.
    #[track_caller]
    pub fn add(
        &mut self,
        name: &str,
        shape: impl Into<Shape>,
        kind: ParamKind,
        init: Init,
    ) -> ParamId {
        let shape = shape.into();
        if let Init::Values(values) = &init {
            assert_eq!(
                values.len(),
                shape.numel(),
                "initial values of {name:?} for shape {shape}"
            );
        }
        self.push(name, shape, kind, init, None)
    }

    /// Declares a weight that the optimizer moves and decays.
    #[track_caller]
    pub fn trainable(&mut self, name: &str, shape: impl Into<Shape>, init: Init) -> ParamId {
        self.add(name, shape, ParamKind::Trainable, init)
    }

    /// Declares state that the forward pass updates.
    #[track_caller]
    pub fn buffer(&mut self, name: &str, shape: impl Into<Shape>, init: Init) -> ParamId {
        self.add(name, shape, ParamKind::Buffer, init)
    }

    /// Declares a constant.
    #[track_caller]
    pub fn frozen(&mut self, name: &str, shape: impl Into<Shape>, init: Init) -> ParamId {
        self.add(name, shape, ParamKind::Frozen, init)
    }

    /// Declares another name for a parameter: one memory, one gradient, one row in the checkpoint.
    #[track_caller]
    pub fn tie(&mut self, name: &str, to: ParamId) -> ParamId {
        let owner = self.entries[to.index()].tied_to.unwrap_or(to);
        let ParamEntry {
            shape, kind, init, ..
        } = self.entries[owner.index()].clone();
        self.push(name, shape, kind, init, Some(owner))
    }

    #[track_caller]
    fn push(
        &mut self,
        name: &str,
        shape: Shape,
        kind: ParamKind,
        init: Init,
        tied_to: Option<ParamId>,
    ) -> ParamId {
        let name = format!("{}{name}", self.prefix);
        assert!(
            self.entries.iter().all(|entry| entry.name != name),
            "two parameters are called {name:?}"
        );
        self.entries.push(ParamEntry {
            name,
            shape,
            kind,
            offset: 0,
            init,
            tied_to,
        });
        ParamId(self.entries.len() as u32 - 1)
    }

    /// The finished layout.
    #[must_use]
    pub fn build(self) -> Arc<ParamLayout> {
        let mut entries = self.entries;
        let mut ends = [0; 4];
        let mut len = 0;
        let kinds = [
            ParamKind::Trainable,
            ParamKind::TrainableNoDecay,
            ParamKind::Buffer,
            ParamKind::Frozen,
        ];
        for (end, kind) in ends.iter_mut().zip(kinds) {
            for entry in entries
                .iter_mut()
                .filter(|e| e.kind == kind && e.tied_to.is_none())
            {
                entry.offset = len;
                len += entry.shape.numel().next_multiple_of(SLOT);
            }
            *end = len;
        }
        for i in 0..entries.len() {
            if let Some(owner) = entries[i].tied_to {
                entries[i].offset = entries[owner.index()].offset;
            }
        }
        Arc::new(ParamLayout {
            entries,
            decayed: ends[0],
            trainable: ends[1],
            len,
        })
    }
}

/// The values of a network's parameters.
#[derive(Debug)]
pub struct Params<R: Real> {
    layout: Arc<ParamLayout>,
    flat: Buffer<R>,
    version: u64,
    packs: PackCache<R>,
}

impl<R: Real> Clone for Params<R> {
    /// The values; packed copies of them are made again when asked for.
    fn clone(&self) -> Self {
        Self {
            layout: Arc::clone(&self.layout),
            flat: self.flat.clone(),
            version: self.version,
            packs: PackCache::new(self.layout.entries.len()),
        }
    }
}

/// Values that are looked at before it is asked whether one of them was not finite.
const CHECKED: usize = 1 << 10;

impl<R: Real> Params<R> {
    /// Zeros.
    #[must_use]
    pub fn zeros(layout: &Arc<ParamLayout>) -> Self {
        Self {
            layout: Arc::clone(layout),
            flat: Buffer::zeroed(layout.len),
            version: 0,
            packs: PackCache::new(layout.entries.len()),
        }
    }

    /// Initial values; those of one parameter depend on the seed and its place in the layout alone. Within a rayon pool all its
    /// threads draw; the values are the same.
    #[must_use]
    pub fn init(layout: &Arc<ParamLayout>, seed: u64) -> Self {
        let mut params = Self::zeros(layout);
        for id in layout.ids().filter(|&id| layout.owner(id) == id) {
            let slots = &mut params.flat[layout.range(id)];
            layout.entry(id).init.fill(seed, id.0, slots);
        }
        params
    }

    /// Names, shapes and places.
    #[must_use]
    pub fn layout(&self) -> &Arc<ParamLayout> {
        &self.layout
    }

    /// Grows by one with every change of the values.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Every value, gaps included.
    #[must_use]
    pub fn flat(&self) -> &[R] {
        &self.flat
    }

    /// Every value, gaps included; packed copies are out of date from here on.
    ///
    /// The gaps between parameters must stay zero.
    pub fn flat_mut(&mut self) -> &mut [R] {
        self.version += 1;
        self.packs.invalidate();
        &mut self.flat
    }

    /// The values that the optimizer moves, gaps included.
    pub fn trainable_mut(&mut self) -> &mut [R] {
        let len = self.layout.trainable;
        &mut self.flat_mut()[..len]
    }

    /// The values of one parameter.
    #[must_use]
    pub fn get(&self, id: ParamId) -> &[R] {
        &self.flat[self.layout.range(id)]
    }

    /// The values of one parameter.
    pub fn get_mut(&mut self, id: ParamId) -> &mut [R] {
        let range = self.layout.range(id);
        &mut self.flat_mut()[range]
    }

    /// Packed copies of the current values.
    #[must_use]
    pub fn packs(&self) -> &PackCache<R> {
        &self.packs
    }

    /// The name of the first parameter, in memory order, that holds an infinity or NaN.
    #[must_use]
    pub fn first_non_finite(&self) -> Option<&str> {
        // Piece by piece: a loop without a way out in its middle looks at many values at a time.
        let any_bad = |piece: &[R]| piece.iter().fold(false, |bad, x| bad | !x.is_finite());
        let start = self.flat.chunks(CHECKED).position(any_bad)? * CHECKED;
        let bad = start + self.flat[start..].iter().position(|x| !x.is_finite())?;
        let owners = self.layout.ids().filter(|&id| self.layout.owner(id) == id);
        owners
            .into_iter()
            .find(|&id| self.layout.range(id).contains(&bad))
            .map(|id| self.layout.entry(id).name.as_str())
    }

    /// Checks that these are parameters of `layout`.
    ///
    /// # Errors
    /// [`CoreError::LayoutMismatch`] with the first parameter that differs.
    pub fn require(&self, layout: &ParamLayout) -> Result<(), CoreError> {
        if *self.layout == *layout {
            return Ok(());
        }
        let describe = |entry: Option<&ParamEntry>| {
            entry.map_or("no further parameter".to_owned(), |entry| {
                format!("{} {:?} {}", entry.name, entry.kind, entry.shape)
            })
        };
        let (ours, theirs) = (&self.layout.entries, &layout.entries);
        let n = ours.len().max(theirs.len());
        let at = (0..n).find(|&i| ours.get(i) != theirs.get(i)).unwrap_or(0);
        Err(CoreError::LayoutMismatch {
            expected: describe(theirs.get(at)),
            found: describe(ours.get(at)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> (Arc<ParamLayout>, [ParamId; 5]) {
        let mut b = ParamsBuilder::new();
        let basis = b.frozen("basis", [3], Init::Values(Arc::from([1.0, 2.0, 3.0])));
        let (w, bias) = b.scope("linear", |b| {
            (
                b.trainable("weight", [5, 7], Init::Uniform(0.5)),
                b.add(
                    "bias",
                    [7],
                    ParamKind::TrainableNoDecay,
                    Init::Constant(0.25),
                ),
            )
        });
        let mean = b.buffer("mean", [4], Init::Constant(0.0));
        let tied = b.tie("decoder.weight", w);
        (b.build(), [basis, w, bias, mean, tied])
    }

    #[test]
    fn memory_is_ordered_by_kind_and_aligned() {
        let (layout, [basis, w, bias, mean, tied]) = layout();
        assert_eq!(layout.range(w), 0..35);
        assert_eq!(layout.range(tied), 0..35);
        assert_eq!(layout.range(bias), 48..55);
        assert_eq!(layout.range(mean), 64..68);
        assert_eq!(layout.range(basis), 80..83);
        assert_eq!(
            (layout.decayed_len(), layout.trainable_len(), layout.len()),
            (48, 64, 96)
        );
        assert_eq!(layout.trainable_count(), 42);
        assert_eq!(layout.find("linear.bias"), Some(bias));
        assert_eq!(layout.entry(tied).name, "decoder.weight");
    }

    #[test]
    fn initial_values_depend_on_the_seed_and_gaps_are_zero() {
        let (layout, [basis, w, bias, ..]) = layout();
        let a = Params::<f32>::init(&layout, 1);
        assert!(a.get(w).iter().all(|x| x.abs() <= 0.5));
        assert!(a.get(bias).iter().all(|&x| x == 0.25));
        assert_eq!(a.get(basis), &[1.0, 2.0, 3.0]);
        assert!(a.flat()[35..48].iter().all(|&x| x == 0.0));
        assert_eq!(a.flat(), Params::<f32>::init(&layout, 1).flat());
        assert_ne!(a.get(w), Params::<f32>::init(&layout, 2).get(w));
    }

    #[test]
    fn the_first_bad_parameter_is_named() {
        let (layout, [_, w, ..]) = layout();
        let mut params = Params::<f64>::init(&layout, 1);
        assert_eq!(params.first_non_finite(), None);
        let before = params.version();
        params.get_mut(w)[3] = f64::NAN;
        assert!(params.version() > before);
        assert_eq!(params.first_non_finite(), Some("linear.weight"));
    }

    #[test]
    fn a_bad_value_is_found_wherever_it_is() {
        let mut b = ParamsBuilder::new();
        let first = b.trainable("first", [CHECKED + 5], Init::Constant(1.0));
        let second = b.trainable("second", [2 * CHECKED], Init::Constant(1.0));
        let layout = b.build();
        for (id, name) in [(first, "first"), (second, "second")] {
            let last = layout.range(id).len() - 1;
            for at in [0, CHECKED - 1, CHECKED, last] {
                for bad in [f32::NAN, f32::NEG_INFINITY] {
                    let mut params = Params::<f32>::init(&layout, 1);
                    params.get_mut(id)[at] = bad;
                    assert_eq!(params.first_non_finite(), Some(name), "{bad} at {at}");
                }
            }
        }
    }

    #[test]
    fn parameters_of_another_network_are_refused() {
        let (layout, _) = layout();
        let params = Params::<f32>::zeros(&layout);
        assert!(params.require(&layout).is_ok());
        let mut b = ParamsBuilder::new();
        b.frozen("basis", [4], Init::Constant(0.0));
        let error = params.require(&b.build()).unwrap_err().to_string();
        assert!(
            error.contains("basis Frozen [4]") && error.contains("basis Frozen [3]"),
            "{error}"
        );
    }

    #[test]
    #[should_panic(expected = "two parameters are called \"a.w\"")]
    fn names_are_unique() {
        let mut b = ParamsBuilder::new();
        b.trainable("a.w", [1], Init::Constant(0.0));
        b.scope("a", |b| b.trainable("w", [1], Init::Constant(0.0)));
    }
}
