//! How weights are stored, and how they become f32. Block formats as ggml defines them: a block is
//! 32 consecutive elements of a row with one scale (and, in Q4_1, one minimum), both f16.

use half::{bf16, f16};

/// A stored element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// 4 bytes an element.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    Bf16,
    /// Blocks of 32: scale, then 32 signed bytes.
    Q8_0,
    /// Blocks of 32: scale, then 32 nibbles, 8 meaning 0.
    Q4_0,
    /// Blocks of 32: scale, minimum, then 32 nibbles.
    Q4_1,
}

/// Names of ggml's type codes, for messages about those that are not supported.
const GGML_NAMES: [&str; 31] = [
    "F32", "F16", "Q4_0", "Q4_1", "Q4_2", "Q4_3", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K",
    "Q4_K", "Q5_K", "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S",
    "IQ2_S", "IQ4_XS", "I8", "I16", "I32", "I64", "F64", "IQ1_M", "BF16",
];

impl Dtype {
    /// From ggml's code; the type's name if it is not one of ours.
    pub fn from_ggml(code: u32) -> Result<Self, String> {
        match code {
            0 => Ok(Dtype::F32),
            1 => Ok(Dtype::F16),
            2 => Ok(Dtype::Q4_0),
            3 => Ok(Dtype::Q4_1),
            8 => Ok(Dtype::Q8_0),
            _ => Err(match GGML_NAMES.get(code as usize) {
                Some(name) => (*name).into(),
                None => format!("number {code}, which ggml does not define"),
            }),
        }
    }

    /// Elements of a block.
    pub fn block(self) -> usize {
        match self {
            Dtype::F32 | Dtype::F16 | Dtype::Bf16 => 1,
            Dtype::Q8_0 | Dtype::Q4_0 | Dtype::Q4_1 => 32,
        }
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::Q8_0 => 34,
            Dtype::Q4_0 => 18,
            Dtype::Q4_1 => 20,
        }
    }

    /// Decodes whole blocks. `bytes` must hold exactly the blocks of `out`.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) {
        let blocks = bytes.chunks_exact(self.block_bytes()).zip(out.chunks_exact_mut(self.block()));
        match self {
            Dtype::F32 => blocks.for_each(|(b, x)| x[0] = f32_at(b)),
            Dtype::F16 => blocks.for_each(|(b, x)| x[0] = f16_at(b, 0)),
            Dtype::Bf16 => {
                blocks.for_each(|(b, x)| x[0] = bf16::from_le_bytes([b[0], b[1]]).to_f32())
            }
            Dtype::Q8_0 => blocks.for_each(|(b, x)| q8_0(b, x)),
            Dtype::Q4_0 => blocks.for_each(|(b, x)| {
                let scale = f16_at(b, 0);
                nibbles(&b[2..], x, |q| (f32::from(q) - 8.0) * scale);
            }),
            Dtype::Q4_1 => blocks.for_each(|(b, x)| {
                let (scale, least) = (f16_at(b, 0), f16_at(b, 2));
                nibbles(&b[4..], x, |q| f32::from(q) * scale + least);
            }),
        }
    }
}

fn f32_at(bytes: &[u8]) -> f32 {
    f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn f16_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

fn q8_0(block: &[u8], out: &mut [f32]) {
    let scale = f16_at(block, 0);
    for (x, q) in out.iter_mut().zip(&block[2..]) {
        *x = f32::from(q.cast_signed()) * scale;
    }
}

/// Sixteen bytes: the low nibbles are elements 0 to 15, the high ones 16 to 31.
fn nibbles(bytes: &[u8], out: &mut [f32], value: impl Fn(u8) -> f32) {
    let (low, high) = out.split_at_mut(16);
    for ((byte, l), h) in bytes.iter().zip(low).zip(high) {
        *l = value(byte & 15);
        *h = value(byte >> 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(head: &[f32], data: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> = Vec::new();
        head.iter().for_each(|x| bytes.extend(f16::from_f32(*x).to_le_bytes()));
        bytes.extend(data);
        bytes
    }

    #[test]
    fn q4_1_is_nibble_times_scale_plus_minimum_low_half_first() {
        let mut data = [0u8; 16];
        (data[0], data[15]) = (0xA3, 0x0F);
        let mut out = [0.0; 32];
        Dtype::Q4_1.decode(&block(&[0.5, -2.0], &data), &mut out);
        assert_eq!((out[0], out[16], out[15], out[31]), (-0.5, 3.0, 5.5, -2.0));
    }

    #[test]
    fn q4_0_is_centred_on_8_and_q8_0_is_signed() {
        let mut data = [0x88u8; 16];
        data[1] = 0xF0;
        let mut out = [0.0; 32];
        Dtype::Q4_0.decode(&block(&[0.25], &data), &mut out);
        assert_eq!((out[0], out[1], out[17]), (0.0, -2.0, 1.75));
        let mut data = [0u8; 32];
        (data[0], data[31]) = (0xFF, 0x7F);
        Dtype::Q8_0.decode(&block(&[2.0], &data), &mut out);
        assert_eq!((out[0], out[31]), (-2.0, 254.0));
    }

    #[test]
    fn half_formats_are_exact() {
        let mut out = [0.0; 2];
        let f16s = [f16::from_f32(1.5).to_le_bytes(), f16::from_f32(-0.25).to_le_bytes()];
        Dtype::F16.decode(f16s.as_flattened(), &mut out);
        assert_eq!(out, [1.5, -0.25]);
        Dtype::Bf16.decode(&[0x80, 0x3f, 0x00, 0xc0], &mut out);
        assert_eq!(out, [1.0, -2.0]);
    }

    #[test]
    fn fault_39_an_unsupported_type_is_named() {
        assert_eq!(Dtype::from_ggml(12), Err("Q4_K".into()));
        assert!(Dtype::from_ggml(999).unwrap_err().contains("999"));
    }
}
