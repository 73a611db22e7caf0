//! Server-sent events: the form in which streamed replies come.

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// Its lines of data, joined.
    pub(super) data: String,
}

/// The events of a whole stream that carry data. A last event without the blank line that ends it
/// counts too: if it was cut off, its data are no JSON. Comments (keep-alives) and other fields are
/// left out; the sort of an event also stands in its data.
pub(super) fn events(bytes: &[u8]) -> Vec<Event> {
    let text = String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes));
    let (mut events, mut data) = (Vec::new(), None::<String>);
    for line in lines(&text) {
        if line.is_empty() {
            events.extend(data.take().map(|data| Event { data }));
        } else if let Some(more) = line.strip_prefix("data:") {
            let more = more.strip_prefix(' ').unwrap_or(more);
            match &mut data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(more);
                }
                None => data = Some(more.into()),
            }
        }
    }
    events.extend(data.map(|data| Event { data }));
    events
}

/// Lines that end in `\n`, `\r\n` or `\r`.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_whatever_the_line_breaks_and_comments() {
        for text in [
            ": OPENROUTER PROCESSING\n\ndata: a\n\nevent: x\ndata:b\ndata: c\n\ndata: d",
            "data: a\r\n\r\ndata: b\r\nid: 4\r\ndata: c\r\n\r\ndata: d\r\n\r\n",
            "data: a\r\rdata: b\rdata: c\r\rdata: d\r",
        ] {
            let found: Vec<String> = events(text.as_bytes()).into_iter().map(|e| e.data).collect();
            assert_eq!(found, ["a", "b\nc", "d"], "{text:?}");
        }
    }

    #[test]
    fn no_data_is_no_event() {
        assert!(events(b"\n\n: ping\n\nevent: ping\n\n").is_empty());
    }
}
