//! Queries, keys, values and their gradients, wherever their tokens lie.

use std::marker::PhantomData;

use nd_core::Element;
use nd_simd::matmul::MatRef;

/// Where the channels of each token start: `[B, H, N, channels]` with any strides, channels side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLayout {
    /// Rows of the batch.
    pub batch: usize,
    /// Heads of a row.
    pub heads: usize,
    /// Tokens of a head.
    pub tokens: usize,
    /// Channels of a token.
    pub channels: usize,
    /// Elements from row to row, head to head, token to token.
    pub strides: [usize; 3],
}

impl HeadLayout {
    /// `[B, N, H, channels]`, the output of a linear layer.
    #[must_use]
    pub fn token_major(batch: usize, tokens: usize, heads: usize, channels: usize) -> Self {
        let token = heads * channels;
        Self {
            batch,
            heads,
            tokens,
            channels,
            strides: [tokens * token, channels, token],
        }
    }

    /// `[B, H, N, channels]`.
    #[must_use]
    pub fn head_major(batch: usize, heads: usize, tokens: usize, channels: usize) -> Self {
        let head = tokens * channels;
        Self {
            batch,
            heads,
            tokens,
            channels,
            strides: [heads * head, head, channels],
        }
    }

    /// `[B, H, N, channels]`
    #[must_use]
    pub fn shape(&self) -> [usize; 4] {
        [self.batch, self.heads, self.tokens, self.channels]
    }

    /// How many tokens there are in all.
    #[must_use]
    pub fn count(&self) -> usize {
        self.batch * self.heads * self.tokens
    }

    /// Where a token starts.
    pub(crate) fn start(&self, b: usize, h: usize, n: usize) -> usize {
        b * self.strides[0] + h * self.strides[1] + n * self.strides[2]
    }

    /// Whether the tokens of a head lie side by side, with nothing between them.
    pub(crate) fn is_gapless(&self) -> bool {
        self.tokens <= 1 || self.strides[2] == self.channels
    }

    /// One past the last element.
    fn end(&self) -> usize {
        if self.count() == 0 || self.channels == 0 {
            0
        } else {
            self.start(self.batch - 1, self.heads - 1, self.tokens - 1) + self.channels
        }
    }

    #[track_caller]
    fn check(&self, name: &str, len: usize) {
        assert!(
            self.end() <= len,
            "{name} {self:?} needs {} elements, its slice has {len}",
            self.end()
        );
    }

    /// Whether no two tokens share an element.
    fn is_injective(&self) -> bool {
        let mut axes = [
            (self.strides[0], self.batch),
            (self.strides[1], self.heads),
            (self.strides[2], self.tokens),
        ];
        axes.sort_unstable();
        let mut reach = self.channels;
        for (stride, count) in axes {
            if count > 1 {
                if stride < reach {
                    return false;
                }
                reach += (count - 1) * stride;
            }
        }
        true
    }
}

/// Queries, keys, values or a gradient to read.
#[derive(Clone, Copy, Debug)]
pub struct HeadsRef<'a, R> {
    data: &'a [R],
    layout: HeadLayout,
}

impl<'a, R: Element> HeadsRef<'a, R> {
    /// The tokens of a slice.
    ///
    /// # Panics
    /// The slice is shorter than the layout.
    #[must_use]
    #[track_caller]
    pub fn new(data: &'a [R], layout: HeadLayout) -> Self {
        layout.check("a tensor of heads", data.len());
        Self { data, layout }
    }

    /// Where the tokens lie.
    #[must_use]
    pub fn layout(&self) -> &HeadLayout {
        &self.layout
    }

    /// One token's channels.
    pub(crate) fn row(&self, b: usize, h: usize, n: usize) -> &'a [R] {
        let start = self.layout.start(b, h, n);
        &self.data[start..start + self.layout.channels]
    }

    /// Tokens `first..first + count` as a matrix.
    pub(crate) fn block(&self, b: usize, h: usize, first: usize, count: usize) -> MatRef<'a, R> {
        let data = if count == 0 || self.layout.channels == 0 {
            &[]
        } else {
            &self.data[self.layout.start(b, h, first)..]
        };
        let stride = self.layout.strides[2];
        MatRef::strided(data, count, self.layout.channels, stride, 1)
    }
}

/// Outputs or gradients that several threads write, each its own tokens.
#[derive(Debug)]
pub struct HeadsMut<'a, R> {
    data: *mut R,
    layout: HeadLayout,
    borrow: PhantomData<&'a mut [R]>,
}

// SAFETY: the slice is borrowed mutably for `'a`, and `HeadsMut::row` obliges its callers to keep to tokens of their own.
unsafe impl<R: Send> Send for HeadsMut<'_, R> {}
// SAFETY: as above.
unsafe impl<R: Send> Sync for HeadsMut<'_, R> {}

impl<'a, R: Element> HeadsMut<'a, R> {
    /// The tokens of a slice.
    ///
    /// # Panics
    /// The slice is shorter than the layout, or two tokens share an element.
    #[must_use]
    #[track_caller]
    pub fn new(data: &'a mut [R], layout: HeadLayout) -> Self {
        layout.check("an output of heads", data.len());
        assert!(
            layout.is_injective(),
            "tokens of the output {layout:?} share elements"
        );
        Self {
            data: data.as_mut_ptr(),
            layout,
            borrow: PhantomData,
        }
    }

    /// Where the tokens lie.
    #[must_use]
    pub fn layout(&self) -> &HeadLayout {
        &self.layout
    }

    /// One token's channels.
    ///
    /// # Safety
    /// Nobody else has this token while the result lives.
    #[allow(
        clippy::mut_from_ref,
        reason = "tokens are disjoint, and the caller has this one to itself"
    )]
    pub(crate) unsafe fn row(&self, b: usize, h: usize, n: usize) -> &mut [R] {
        assert!(b < self.layout.batch && h < self.layout.heads && n < self.layout.tokens);
        let start = self.data.wrapping_add(self.layout.start(b, h, n));
        // SAFETY: inside the slice, as `new` checked; the caller has the token to itself.
        unsafe { std::slice::from_raw_parts_mut(start, self.layout.channels) }
    }

    /// The channels of tokens `first..first + count`, if the tokens of a head lie side by side.
    ///
    /// # Safety
    /// Nobody else has these tokens while the result lives.
    #[allow(
        clippy::mut_from_ref,
        reason = "tokens are disjoint, and the caller has these to itself"
    )]
    pub(crate) unsafe fn rows(
        &self,
        b: usize,
        h: usize,
        first: usize,
        count: usize,
    ) -> Option<&mut [R]> {
        let HeadLayout {
            batch,
            heads,
            tokens,
            channels,
            ..
        } = self.layout;
        assert!(b < batch && h < heads && first <= tokens && count <= tokens - first);
        if !self.layout.is_gapless() {
            return None;
        }
        if count == 0 || channels == 0 {
            return Some(&mut []);
        }
        let start = self.data.wrapping_add(self.layout.start(b, h, first));
        // SAFETY: inside the slice, as `new` checked; the caller has the tokens to itself, and they are all that is there.
        Some(unsafe { std::slice::from_raw_parts_mut(start, count * channels) })
    }
}
