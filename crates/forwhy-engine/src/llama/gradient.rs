//! Where gradients go: into a range of the flat buffer, or into adapters.

use std::ops::Range;

use crate::linear::Linear;
use crate::lora::{Adapters, Site};

/// The receiver of one pack's gradients.
pub(crate) enum Gradient<'a> {
    /// Of all parameters in a range of the flat buffer.
    Flat {
        /// The gradient of the range.
        g: &'a mut [f32],
        /// Where the range begins in the flat buffer.
        from: usize,
        /// Add to what is there, or overwrite it.
        add: bool,
    },
    /// Of the adapters only.
    Adapters {
        /// The adapters.
        adapters: &'a mut Adapters,
        /// Their gradient, in the order of their own flat buffer; it is added to.
        g: &'a mut [f32],
    },
}

impl Gradient<'_> {
    /// Gradient of the linear layer at `site` of block `block`, whose output gradient is dy[r,out]
    /// and input x[r,inp].
    pub(super) fn linear(
        &mut self,
        (block, site): (usize, Site),
        linear: Linear,
        dy: &[f32],
        x: &[f32],
    ) {
        match self {
            Gradient::Flat { g, from, add } => {
                let g = &mut g[linear.at - *from..][..linear.out * linear.inp];
                linear.dw(dy, x, g, *add);
            }
            Gradient::Adapters { adapters, g } => {
                adapters.gradient(block, site, linear, (dy, x), g)
            }
        }
    }

    /// Where the gradient of a norm or bias is to be added, if it is trained.
    pub(super) fn vector(&mut self, range: Range<usize>) -> Option<&mut [f32]> {
        match self {
            Gradient::Flat { g, from, add } => {
                let g = &mut g[range.start - *from..range.end - *from];
                if !*add {
                    g.fill(0.0);
                }
                Some(g)
            }
            Gradient::Adapters { .. } => None,
        }
    }

    /// Gradient of the bias at `place`, if there is one: the sum of the rows of dy.
    pub(super) fn bias(&mut self, place: &Option<Range<usize>>, dy: &[f32]) {
        let Some(db) = place.clone().and_then(|place| self.vector(place)) else { return };
        for row in dy.chunks_exact(db.len()) {
            db.iter_mut().zip(row).for_each(|(a, b)| *a += b);
        }
    }

    /// As `vector`, for the final norm, which comes in chunks and is trained only with all.
    pub(super) fn final_norm(&mut self, range: Range<usize>, later: bool) -> Option<&mut [f32]> {
        let Gradient::Flat { g, from, add } = self else { return None };
        let g = g.get_mut(range.start - *from..range.end - *from)?;
        if !*add && !later {
            g.fill(0.0);
        }
        Some(g)
    }

    /// Gradient of the head, which comes in chunks and is trained only with all.
    pub(super) fn head(&mut self, head: Linear, dy: &[f32], x: &[f32], later: bool) {
        let Gradient::Flat { g, from, add } = self else { return };
        let at = head.at - *from;
        if let Some(g) = g.get_mut(at..at + head.out * head.inp) {
            head.dw(dy, x, g, *add || later);
        }
    }

    /// Gradient of the embedding: dx[r,h] is added to the rows of `ids`. `fresh`: nothing wrote there
    /// in this pack (the head does, where it is tied).
    pub(super) fn embedding(&mut self, embed: Linear, ids: &[u32], dx: &[f32], fresh: bool) {
        let Gradient::Flat { g, from, add } = self else { return };
        let (at, h) = (embed.at - *from, embed.inp);
        let Some(g) = g.get_mut(at..at + embed.out * h) else { return };
        if fresh && !*add {
            g.fill(0.0);
        }
        for (id, dx) in ids.iter().zip(dx.chunks_exact(h)) {
            g[*id as usize * h..][..h].iter_mut().zip(dx).for_each(|(a, b)| *a += b);
        }
    }
}
