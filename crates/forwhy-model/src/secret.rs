//! API keys: from the environment or a file that only its owner may read, and never out again.
//!
//! A [`Secret`] has no way to be printed or written. What a server sends back is searched for it
//! before anything is stored or shown ([`Secret::strike_out`]): plain, percent-encoded and in Base64.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use memchr::memmem;

/// Shorter texts are no keys, and striking them out would hit ordinary words.
const LEAST_CHARS: usize = 8;
/// Stands in the place of a key.
const STRUCK_OUT: &[u8] = b"[key struck out]";

/// A key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable is not set.
    #[error("the environment variable {0} is not set; it should hold the API key")]
    Unset(String),
    /// It holds something else.
    #[error("{0} holds no API key: {1}")]
    NoKey(String, &'static str),
    /// Others can read the file.
    #[error("{path} can be read by others (mode {mode:o}); chmod 600 {path}", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] forwhy_store::FileError),
}

/// An API key.
#[derive(Clone)]
pub struct Secret {
    text: String,
    forms: Vec<memmem::Finder<'static>>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(not shown)")
    }
}

impl Secret {
    /// The key in the environment variable `name`.
    pub fn from_env(name: &str) -> Result<Secret, SecretError> {
        let unset = |_| SecretError::Unset(name.into());
        #[allow(clippy::map_err_ignore, reason = "the only other cause is text that is no Unicode")]
        let text = std::env::var(name).map_err(unset)?;
        Secret::new(&text, &format!("the environment variable {name}"))
    }

    /// The key in a file that only its owner may read.
    pub fn from_file(path: &Path) -> Result<Secret, SecretError> {
        let bytes = forwhy_store::atomic::read(path, 1 << 14)?;
        let failed = |source| forwhy_store::FileError { doing: "read", path: path.into(), source };
        let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(SecretError::Open { path: path.into(), mode });
        }
        Secret::new(&String::from_utf8_lossy(&bytes), &path.display().to_string())
    }

    fn new(text: &str, from: &str) -> Result<Secret, SecretError> {
        let text = text.trim();
        let no = |why| Err(SecretError::NoKey(from.into(), why));
        if text.len() < LEAST_CHARS {
            return no("it has fewer than 8 characters");
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return no("it has characters that cannot stand in a header");
        }
        let forms = forms(text).iter().map(|f| memmem::Finder::new(f).into_owned()).collect();
        Ok(Secret { text: text.into(), forms })
    }

    /// The key itself, for the header of a request and nothing else.
    pub(crate) fn expose(&self) -> &str {
        &self.text
    }

    /// `bytes` without the key in any of its forms.
    pub fn strike_out(&self, bytes: Vec<u8>) -> Vec<u8> {
        self.forms.iter().fold(bytes, |bytes, form| {
            if form.find(&bytes).is_none() {
                return bytes;
            }
            let (mut out, mut rest) = (Vec::with_capacity(bytes.len()), 0);
            for at in form.find_iter(&bytes) {
                out.extend_from_slice(&bytes[rest..at]);
                out.extend_from_slice(STRUCK_OUT);
                rest = at + form.needle().len();
            }
            out.extend_from_slice(&bytes[rest..]);
            out
        })
    }

    /// `text` without the key.
    pub fn strike_out_of(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.strike_out(text.as_bytes().to_vec())).into_owned()
    }
}

/// The key as it may turn up in a reply.
fn forms(text: &str) -> Vec<Vec<u8>> {
    let mut forms = vec![text.as_bytes().to_vec()];
    for case in [b"0123456789ABCDEF", b"0123456789abcdef"] {
        forms.push(percent(text.as_bytes(), case));
    }
    // Base64 of a longer text that holds the key: three alignments, in both alphabets.
    for before in 0..3 {
        let padded = [&vec![0; before], text.as_bytes()].concat();
        for alphabet in [STANDARD, URL_SAFE] {
            let digits = base64(&padded, alphabet);
            // Digits that also depend on the neighbours are left out.
            let first = (before * 8).div_ceil(6);
            let last = padded.len() * 8 / 6;
            forms.push(digits[first..last].to_vec());
        }
    }
    forms.sort_unstable();
    forms.dedup();
    // Longest first, so that a form is not cut up by one that is part of it.
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms
}

fn percent(bytes: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    let encode = |b: &u8| match b {
        b if b.is_ascii_alphanumeric() || b"-._~".contains(b) => vec![*b],
        b => vec![b'%', digits[usize::from(b >> 4)], digits[usize::from(b & 15)]],
    };
    bytes.iter().flat_map(encode).collect()
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Base64 without padding.
fn base64(bytes: &[u8], alphabet: &[u8; 64]) -> Vec<u8> {
    let digits = bytes.chunks(3).flat_map(|chunk| {
        let all =
            chunk.iter().fold(0, |all, b| all << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        (0..=chunk.len()).map(move |i| alphabet[(all >> (18 - 6 * i)) as usize & 63])
    });
    digits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> Secret {
        Secret::new("sk-Ab1/x+y?z_secret\n", "a test").unwrap()
    }

    #[test]
    fn fault_33_a_key_is_struck_out_in_every_form() {
        let secret = secret();
        let plain = "sk-Ab1/x+y?z_secret";
        let inside = |n: usize| [&vec![b'u'; n], plain.as_bytes(), b":more"].concat();
        let texts = [
            plain.to_string(),
            format!("Bearer {plain}, again {plain}"),
            "sk-Ab1%2Fx%2By%3Fz_secret".into(),
            "sk-Ab1%2fx%2by%3fz_secret".into(),
            String::from_utf8(base64(&inside(0), STANDARD)).unwrap(),
            String::from_utf8(base64(&inside(1), STANDARD)).unwrap(),
            String::from_utf8(base64(&inside(2), URL_SAFE)).unwrap(),
        ];
        for text in texts {
            let out = secret.strike_out_of(&format!("<{text}>"));
            assert!(out.contains("[key struck out]"), "{text}");
            assert!(!out.contains("secret") && !out.contains("c2Vjcm"), "{out}");
        }
        assert_eq!(secret.strike_out_of("an innocent text"), "an innocent text");
    }

    #[test]
    fn base64_is_base64() {
        for (text, expected) in [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v")] {
            assert_eq!(base64(text.as_bytes(), STANDARD), expected.as_bytes());
        }
    }

    #[test]
    fn fault_33_a_key_is_not_printed() {
        assert_eq!(format!("{:?}", Some(secret())), "Some(Secret(not shown))");
    }

    #[test]
    fn fault_33_a_key_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        forwhy_store::atomic::write(&path, b"sk-0123456789\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        mode(0o644);
        let error = Secret::from_file(&path).unwrap_err().to_string();
        assert!(error.contains("mode 644") && error.contains("chmod 600"), "{error}");
        mode(0o600);
        assert_eq!(Secret::from_file(&path).unwrap().expose(), "sk-0123456789");
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_shown() {
        for text in ["", "short", "two words here", "with\u{e9}accent"] {
            let error = Secret::new(text, "the variable K").unwrap_err().to_string();
            assert!(error.starts_with("the variable K holds no API key"), "{error}");
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
    }
}
