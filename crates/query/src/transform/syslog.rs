//! The parts of a syslog message, under the names that LogsQL has for them.

use lodge_record::time;
use lodge_wire::syslog::stamps::Stamps;
use lodge_wire::syslog::{facility_name, parse};

/// What severities are called, from 0.
const LEVELS: [&str; 8] =
    ["emerg", "alert", "critical", "error", "warning", "notice", "info", "debug"];

/// Calls `each(name, value)` for the parts of a message of RFC 5424 or RFC 3164. `offset_ns`: what its
/// local times are ahead of UTC; `now_ns`: the moment that a time without a year is near to.
pub(super) fn each(text: &str, offset_ns: i64, now_ns: i64, mut each: impl FnMut(&str, &str)) {
    if text.is_empty() {
        return;
    }
    let message = parse(text);
    if let (Some(facility), Some(severity)) = (message.facility, message.severity) {
        each("level", LEVELS.get(usize::from(severity)).copied().unwrap_or_default());
        each("priority", &(u16::from(facility) * 8 + u16::from(severity)).to_string());
        each("facility_keyword", facility_name(facility));
        each("facility", &facility.to_string());
        each("severity", &severity.to_string());
    }
    let head = text.strip_prefix('<').and_then(|rest| rest.split_once('>'));
    let is_new = head.is_some_and(|(_, behind)| behind.starts_with("1 "));
    each("format", if is_new { "rfc5424" } else { "rfc3164" });
    if let Some(stamp) = message.timestamp {
        let zone = move |local_ns: i64| local_ns.checked_sub(offset_ns);
        match Stamps::new(Box::new(zone)).read(stamp, now_ns) {
            // As it is written, where that is a time already.
            Some(_) if is_new => each("timestamp", stamp),
            Some(time_ns) => each("timestamp", &time::format(time_ns)),
            None => each("timestamp", stamp),
        }
    }
    let named = [
        ("hostname", message.hostname),
        ("app_name", message.appname),
        ("proc_id", message.procid),
        ("msg_id", message.msgid),
    ];
    for (name, value) in named {
        if let Some(value) = value {
            each(name, value);
        }
    }
    let mut name = String::new();
    for (element, parameter, value) in &message.structured {
        name.clear();
        [element, ".", parameter].iter().for_each(|part| name.push_str(part));
        each(&name, value);
    }
    if !message.text.is_empty() {
        each("message", message.text);
    }
}
