//! Other people's clients against the server: the `openai` package and a task of `inspect_ai` with
//! tool calls. `FORWHY_PEER_VENV` names the Python environment that has them.

use std::path::Path;
use std::process::Command;

use super::server;

#[test]
fn the_openai_client_and_inspect_ai_work_against_it() {
    let Some(venv) = std::env::var_os("FORWHY_PEER_VENV") else {
        println!(
            "skipped: FORWHY_PEER_VENV names no Python environment with openai and inspect-ai"
        );
        return;
    };
    let server = server();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/peers.py");
    let logs = tempfile::tempdir().unwrap();
    let out = Command::new(Path::new(&venv).join("bin/python"))
        .arg(script)
        .arg(format!("http://{}/v1", server.address))
        .current_dir(logs.path())
        .output()
        .unwrap();
    let text = [out.stdout, out.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    println!("{}", text[0]);
    assert!(out.status.success(), "{}{}", text[0], text[1]);
}
