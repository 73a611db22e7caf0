//! Linear and cross-entropy over a vocabulary of 49,152 for 1,024 rows, forward and backward, against
//! PyTorch in f32, and in bf16 against its autocast.

use super::turns::Programs;
use super::{Better, Measure, Row};

const COST: Measure = Measure { figure: "cpu_secs", unit: "CPU-s", better: Better::Lower };
const PEAK: Measure = Measure { figure: "peak_mib", unit: "MiB peak", better: Better::Lower };

pub(super) fn rows() -> Vec<Row> {
    let row = |name, argument| Row {
        name,
        group: "head",
        programs: Programs::Engine,
        argument,
        measures: &[COST, PEAK],
    };
    vec![row("head f32", "head"), row("head bf16", "head-bf16")]
}
