//! What only some crates may do in their code: open sockets, print, write files, be unsafe.

use super::layers::SPEAKERS;
use super::{Exception, Finding, excuse};
use crate::repository::Repository;

/// Something that only some crates may do.
struct Ban {
    /// Whole words or paths of code.
    words: &'static [&'static str],
    /// The crates that may.
    crates: &'static [&'static str],
    /// Whether tests, examples, benches and build scripts may as well.
    tests_may: bool,
    why: &'static str,
}

const NETWORK: Ban = Ban {
    words: &["std::net", "TcpStream", "TcpListener", "UdpSocket", "reqwest", "hyper"],
    crates: &SPEAKERS,
    tests_may: false,
    why: "only forwhy-model and forwhy-serve open sockets",
};

const PRINTING: Ban = Ban {
    words: &["print!", "println!", "io::stdout"],
    crates: &["forwhy", "xtask"],
    tests_may: true,
    why: "libraries return values; the command prints them",
};

const WRITING: Ban = Ban {
    words: &["fs::write", "File::create", "File::create_new", "File::options", "OpenOptions"],
    crates: &["forwhy-store"],
    tests_may: true,
    why: "files are written through forwhy-store, whole or not at all",
};

/// Files that write by themselves.
const WRITERS: [Exception; 2] = [
    Exception {
        path: "crates/forwhy-engine/src/pull.rs",
        reason: "pip's log, and unpacking into a temporary folder that is renamed when its hash holds",
    },
    Exception {
        path: "crates/forwhy-testkit/src/tiny_model.rs",
        reason: "fixtures for tests, in a folder of the test; the kit may use only forwhy-core",
    },
];

const UNSAFE: Ban = Ban {
    words: &["unsafe"],
    crates: &["forwhy-engine"],
    tests_may: false,
    why: "only the engine's kernels may be unsafe",
};

pub(super) fn network(repository: &Repository) -> Vec<Finding> {
    banned(repository, &NETWORK)
}

pub(super) fn printing(repository: &Repository) -> Vec<Finding> {
    banned(repository, &PRINTING)
}

pub(super) fn writing(repository: &Repository) -> Vec<Finding> {
    excuse(banned(repository, &WRITING), &WRITERS)
}

pub(super) fn unsafe_code(repository: &Repository) -> Vec<Finding> {
    banned(repository, &UNSAFE)
}

fn banned(repository: &Repository, ban: &Ban) -> Vec<Finding> {
    let mut found = Vec::new();
    for (file, source) in repository.rust() {
        let may = repository.crate_of(&file.path).is_some_and(|c| ban.crates.contains(&c));
        if may || ban.tests_may && file.is_test {
            continue;
        }
        for word in ban.words {
            let places = source.find(word).into_iter();
            let places = places.filter(|at| !(ban.tests_may && source.is_test(*at)));
            found.extend(places.map(|at| {
                Finding::at(&file.path, source.line(at), format!("`{word}`: {}", ban.why))
            }));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::planted::files;
    use crate::tidy::shown;

    const LIBRARY: &str = "crates/forwhy-lab/src/lib.rs";
    const IN_TESTS: &str = "crates/forwhy-lab/tests/it.rs";

    fn lines(findings: &[Finding]) -> Vec<(&str, Option<usize>)> {
        findings.iter().map(|f| (f.place.as_str(), f.line)).collect()
    }

    #[test]
    fn a_socket_is_found_in_code_and_in_tests() {
        for code in [
            "use std::net::IpAddr;",
            "let s = TcpStream::connect(a);",
            "use std::{io, net};\nlet l = TcpListener::bind(a);",
            "reqwest::get(u)",
            "use hyper::Body;",
        ] {
            for path in [LIBRARY, IN_TESTS] {
                assert!(!network(&files(&[(path, code)])).is_empty(), "{path}: {code}");
            }
            let may = files(&[("crates/forwhy-model/src/wire.rs", code)]);
            assert!(network(&may).is_empty(), "{code}");
        }
    }

    #[test]
    fn words_in_comments_literals_and_names_are_no_sockets() {
        let code = "// TcpStream\nlet a = \"hyper\"; /// reqwest\nlet hyperbola = hyper_plane();";
        assert!(network(&files(&[(LIBRARY, code)])).is_empty());
    }

    #[test]
    fn printing_in_a_library_is_found_with_its_line() {
        let code = "fn a() {\n    println!(\"b\");\n    std::io::stdout();\n}\n\
                    #[cfg(test)]\nmod tests { fn c() { print!(); } }\n";
        let here = files(&[
            (LIBRARY, code),
            (IN_TESTS, "println!()"),
            ("crates/forwhy/src/main.rs", "println!()"),
            ("crates/forwhy-lab/build.rs", "println!()"),
        ]);
        assert_eq!(lines(&printing(&here)), [(LIBRARY, Some(2)), (LIBRARY, Some(3))]);
    }

    #[test]
    fn printing_to_stderr_is_another_rules_affair() {
        assert!(printing(&files(&[(LIBRARY, "eprintln!(); eprint!();")])).is_empty());
    }

    #[test]
    fn writing_beside_the_store_is_found() {
        for code in ["std::fs::write(p, b)", "File::create(p)", "OpenOptions::new()"] {
            let found = shown(&banned(&files(&[(LIBRARY, code)]), &WRITING));
            assert_eq!(found.len(), 1, "{code}: {found:?}");
            assert!(found[0].contains("forwhy-store, whole or not at all"));
            let may = [("crates/forwhy-store/src/atomic.rs", code), (IN_TESTS, code)];
            assert!(banned(&files(&may), &WRITING).is_empty(), "{code}");
        }
    }

    #[test]
    fn unsafe_outside_the_engine_is_found_also_in_tests() {
        let code = "unsafe { f() }";
        let here = files(&[
            (LIBRARY, code),
            (IN_TESTS, code),
            ("crates/forwhy-engine/src/simd.rs", code),
            ("crates/forwhy-core/src/lib.rs", "#![forbid(unsafe_code)]"),
        ]);
        assert_eq!(lines(&unsafe_code(&here)), [(LIBRARY, Some(1)), (IN_TESTS, Some(1))]);
    }
}
