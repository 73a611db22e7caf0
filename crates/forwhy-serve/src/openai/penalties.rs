//! Biases and penalties of the OpenAI dialect, which change the logits of a draw.

use std::collections::BTreeMap;

use forwhy_engine::schedule::Steer;

/// logit - frequency * times drawn - presence * (drawn at all) + bias.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Penalties {
    /// For tokens of the reply.
    presence: f32,
    /// For tokens of the reply, by how often they were drawn.
    frequency: f32,
    /// Added, by token.
    bias: Vec<(u32, f32)>,
    drawn: BTreeMap<u32, f32>,
}

impl Penalties {
    /// With nothing drawn yet; None if they change nothing.
    pub(super) fn new(presence: f32, frequency: f32, bias: Vec<(u32, f32)>) -> Option<Self> {
        let none = presence == 0.0 && frequency == 0.0 && bias.is_empty();
        (!none).then(|| Penalties { presence, frequency, bias, drawn: BTreeMap::new() })
    }
}

impl Steer for Penalties {
    fn adjust(&mut self, logits: &mut [f32]) {
        for (id, bias) in &self.bias {
            logits[*id as usize] += bias;
        }
        for (id, times) in &self.drawn {
            logits[*id as usize] -= self.presence + self.frequency * times;
        }
    }

    fn took(&mut self, id: u32) {
        *self.drawn.entry(id).or_default() += 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn penalties_count_what_was_drawn_and_biases_do_not() {
        let mut penalties = Penalties::new(1.0, 0.5, vec![(2, -7.0)]).unwrap();
        penalties.took(0);
        penalties.took(0);
        penalties.took(1);
        let mut logits = [4.0, 4.0, 4.0, 4.0];
        penalties.adjust(&mut logits);
        assert_eq!(logits, [2.0, 2.5, -3.0, 4.0]);
        assert!(Penalties::new(0.0, 0.0, Vec::new()).is_none());
    }
}
