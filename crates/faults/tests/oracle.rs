//! The oracle itself under test: far ends that lose, double, damage and invent must be found out.
//!
//! Each far end here is a real HTTP server whose rows are broken on purpose, so that what is tested
//! is the whole way from the socket to the verdict.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use lodge_faults::far_end::FarEnd;
use lodge_faults::http;
use lodge_faults::ledger::{Judgement, Ledger, Outcome, Terms};
use lodge_faults::mint::{LineId, Mint, Verdict};
use lodge_faults::report::{Floor, Report};
use serde_json::{Value, json};

const FLOOR: Floor = Floor { acknowledged_min: 50, retries_min: 1, faults_min: 1 };

/// How a far end ends its answers.
#[derive(Clone, Copy, PartialEq)]
enum Ending {
    Whole,
    WithinTheBody,
    WrongCount,
}

/// A far end that holds `rows`, for as many requests as a test sends it.
fn far_end(rows: Vec<Value>, ending: Ending) -> FarEnd {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr: SocketAddr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            let n = stream.read(&mut head).unwrap();
            let counting = String::from_utf8_lossy(&head[..n]).contains("count");
            let body: Vec<String> = if counting {
                let total = rows.len() + usize::from(ending == Ending::WrongCount);
                vec![json!({"total": total.to_string()}).to_string()]
            } else {
                rows.iter().map(Value::to_string).collect()
            };
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
            for line in body {
                let chunk = format!("{:x}\r\n{line}\n\r\n", line.len() + 1);
                stream.write_all(chunk.as_bytes()).unwrap();
            }
            if ending != Ending::WithinTheBody {
                stream.write_all(b"0\r\n\r\n").unwrap();
            }
        }
    });
    FarEnd::new(addr)
}

/// The books of 60 file lines (source 0), and three requests of ten lines each (source 1): one
/// acknowledged, one unanswered, one refused. And the rows of a faultless far end.
fn scenario() -> (Mint, Ledger, Vec<Value>) {
    let mint = Mint::new(42);
    let ledger = Ledger::default();
    assert_eq!(ledger.open_file("file"), 0);
    assert_eq!(ledger.open_requests("http"), 1);
    ledger.written(0, 60);
    let (acknowledged, _) = ledger.sending(1, 10);
    let (_unanswered, _) = ledger.sending(1, 10);
    let (refused, _) = ledger.sending(1, 10);
    ledger.settled(acknowledged, Outcome::Acknowledged);
    ledger.settled(refused, Outcome::Refused);
    let file = (0..60).map(|number| row(&mint, 0, number));
    let requests = (0..10).map(|number| row(&mint, 1, number));
    let rows = file.chain(requests).collect();
    (mint, ledger, rows)
}

fn row(mint: &Mint, source: u16, number: u64) -> Value {
    let id = LineId { source, number };
    json!({
        "_time": "2026-01-01T00:00:00Z",
        "_msg": format!("2026-01-01T00:00:00Z INFO {}", mint.text(id)),
        "oracle.number": mint.number_field(id).to_string(),
    })
}

fn judge(break_it: impl FnOnce(&Mint, &mut Vec<Value>)) -> Judgement {
    let (mint, ledger, mut rows) = scenario();
    break_it(&mint, &mut rows);
    ledger.judge(&far_end(rows, Ending::Whole).read_all(&mint).unwrap())
}

fn violations(judgement: Judgement) -> Vec<String> {
    let report = Report { judgement, retries: 1, faults: 1, ..Report::default() };
    report.violations(&FLOOR)
}

#[test]
fn a_faultless_far_end_is_clean() {
    let judgement = judge(|_, _| {});
    assert_eq!((judgement.sent, judgement.acknowledged), (90, 70));
    assert!(judgement.is_clean(), "{judgement:?}");
    assert_eq!(violations(judgement), Vec::<String>::new());
}

#[test]
fn an_unanswered_request_may_be_there_whole() {
    let judgement = judge(|mint, rows| rows.extend((10..20).map(|n| row(mint, 1, n))));
    assert!(judgement.is_clean(), "{judgement:?}");
}

#[test]
fn a_stack_trace_in_one_record_counts_line_by_line() {
    let judgement = judge(|mint, rows| {
        let lines: Vec<_> =
            (57..60).map(|number| mint.text(LineId { source: 0, number })).collect();
        rows.retain(|row| !lines.iter().any(|line| row["_msg"].as_str().unwrap().contains(line)));
        rows.push(json!({"_msg": format!("ERROR {}", lines.join("\n\tat com.example.Shop "))}));
    });
    assert!(judgement.is_clean(), "{judgement:?}");
}

#[test]
fn a_lost_line_is_found_out() {
    let judgement = judge(|_, rows| drop(rows.remove(7)));
    assert_eq!(judgement.lost, 1);
    assert_eq!(judgement.examples, ["lost: line 7 of file file"]);
    assert_eq!(violations(judgement), ["1 acknowledged lines are lost"]);
}

#[test]
fn a_lost_line_of_an_acknowledged_request_is_found_out() {
    let judgement = judge(|_, rows| drop(rows.remove(63)));
    assert_eq!((judgement.lost, judgement.torn), (1, 0), "{judgement:?}");
}

#[test]
fn a_doubled_line_is_found_out() {
    let judgement = judge(|_, rows| rows.extend([rows[3].clone(), rows[3].clone()]));
    assert_eq!(judgement.doubled, 2);
    assert_eq!(judgement.examples, ["doubled: line 3 of file is there 3 times"]);
    assert_eq!(violations(judgement), ["2 lines are doubled"]);
}

#[test]
fn a_damaged_message_is_found_out() {
    let judgement = judge(|_, rows| {
        let text = rows[5]["_msg"].as_str().unwrap();
        rows[5]["_msg"] = Value::String(format!("{}~", &text[..text.len() - 1]));
    });
    assert_eq!((judgement.corrupted, judgement.lost), (1, 0), "{judgement:?}");
    assert_eq!(violations(judgement), ["1 lines are corrupted"]);
}

#[test]
fn a_damaged_field_is_found_out() {
    let judgement = judge(|_, rows| rows[5]["oracle.number"] = "12345678".into());
    assert_eq!(judgement.corrupted, 1, "{judgement:?}");
}

#[test]
fn two_lines_run_together_are_found_out() {
    let judgement = judge(|mint, rows| {
        let [first, second] = [5, 6].map(|number| mint.text(LineId { source: 0, number }));
        rows[5]["_msg"] = Value::String(first + &second);
        rows.remove(6);
    });
    assert_eq!((judgement.corrupted, judgement.lost), (1, 1), "{judgement:?}");
}

#[test]
fn invented_lines_are_found_out() {
    let never_sent = judge(|mint, rows| rows.push(row(mint, 0, 60)));
    assert_eq!(never_sent.invented, 1, "{never_sent:?}");
    let no_such_source = judge(|mint, rows| rows.push(row(mint, 9, 0)));
    assert_eq!(no_such_source.invented, 1, "{no_such_source:?}");
    let other_run = judge(|_, rows| rows.push(row(&Mint::new(43), 0, 1)));
    assert_eq!(other_run.invented, 1, "{other_run:?}");
    let empty = judge(|_, rows| rows.push(json!({"_time": "2026-01-01T00:00:00Z"})));
    assert_eq!(violations(empty), ["1 lines were invented"]);
    let refused = judge(|mint, rows| rows.push(row(mint, 1, 25)));
    assert_eq!(refused.invented, 1, "{refused:?}");
}

#[test]
fn a_request_stored_in_part_is_found_out() {
    let judgement = judge(|mint, rows| rows.push(row(mint, 1, 15)));
    assert_eq!(judgement.torn, 1, "{judgement:?}");
    assert_eq!(violations(judgement), ["1 requests are stored in part"]);
}

/// The books of one request of ten lines that was sent `sent` times and answered at last, and a far
/// end that holds the first `whole` copies of it, and `part` lines of another.
fn repeated(sent: u64, whole: u64, part: u64) -> Judgement {
    let mint = Mint::new(42);
    let ledger = Ledger::default();
    ledger.open_requests("http");
    let (request, _) = ledger.sending(0, 10);
    for _ in 1..sent {
        ledger.repeating(request);
    }
    ledger.settled(request, Outcome::Acknowledged);
    let copies = (0..whole).flat_map(|_| 0..10).chain(0..part);
    let rows = copies.map(|number| row(&mint, 0, number)).collect();
    ledger.judge(&far_end(rows, Ending::Whole).read_all(&mint).unwrap())
}

#[test]
fn a_request_sent_again_may_be_there_as_often_as_it_was_sent() {
    for whole in 1..=3 {
        let judgement = repeated(3, whole, 0);
        assert!(judgement.is_clean(), "{whole} copies: {judgement:?}");
        assert_eq!(judgement.repeated, (whole - 1) * 10);
    }
    assert_eq!(repeated(3, 0, 0).lost, 10);
    assert_eq!(repeated(3, 4, 0).doubled, 10);
    assert_eq!(repeated(3, 1, 4).torn, 1);
}

#[test]
fn a_request_sent_again_by_its_key_is_there_once() {
    let mint = Mint::new(42);
    for (copies, doubled) in [(1, 0), (2, 10)] {
        let ledger = Ledger::default();
        ledger.open_keyed("http");
        let (request, _) = ledger.sending(0, 10);
        ledger.repeating(request);
        ledger.settled(request, Outcome::Acknowledged);
        let rows = (0..copies).flat_map(|_| 0..10).map(|number| row(&mint, 0, number)).collect();
        let found = far_end(rows, Ending::Whole).read_all(&mint).unwrap();
        assert_eq!(ledger.judge(&found).doubled, doubled, "{copies} copies");
    }
}

#[test]
fn a_request_taken_in_parts_may_be_there_in_part_until_it_is_acknowledged() {
    let mint = Mint::new(42);
    let ledger = Ledger::default();
    ledger.open_on_terms("parts", Terms { is_in_parts: true, ..Terms::default() });
    let (request, _) = ledger.sending(0, 10);
    let rows = (0..4).map(|number| row(&mint, 0, number)).collect();
    let found = far_end(rows, Ending::Whole).read_all(&mint).unwrap();
    assert!(ledger.judge(&found).is_clean(), "{:?}", ledger.judge(&found));
    ledger.settled(request, Outcome::Acknowledged);
    assert_eq!(ledger.judge(&found).lost, 6);
}

#[test]
fn each_source_is_judged_by_itself() {
    let (mint, ledger, mut rows) = scenario();
    rows.remove(7);
    // Of the acknowledged request a line is damaged; the unanswered one is there.
    let text = rows[62]["_msg"].as_str().unwrap();
    rows[62]["_msg"] = Value::String(format!("{text}~"));
    rows.extend((10..20).map(|number| row(&mint, 1, number)));
    rows.push(row(&Mint::new(43), 0, 0));
    let found = far_end(rows, Ending::Whole).read_all(&mint).unwrap();
    let accounts = ledger.judge_each(&found);
    let [file, http] = accounts.as_slice() else { panic!("{accounts:?}") };
    assert_eq!((file.name.as_str(), file.judgement.lost, file.judgement.corrupted), ("file", 1, 0));
    let judged = &http.judgement;
    assert_eq!((judged.acknowledged, judged.lost, judged.corrupted), (10, 0, 1), "{judged:?}");
    assert_eq!((http.acknowledged, http.unanswered, http.unanswered_there), (1, 1, 1));
    // What is of no source is in none of the accounts, but in the whole.
    assert_eq!((file.judgement.invented, judged.invented), (0, 0));
    assert_eq!(ledger.judge(&found).invented, 1);
}

#[test]
fn a_body_in_pieces_arrives_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut came, mut buffer) = (Vec::new(), [0; 4096]);
        while !came.ends_with(b"0\r\n\r\n") {
            let n = stream.read(&mut buffer).unwrap();
            came.extend_from_slice(&buffer[..n]);
        }
        stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").unwrap();
        String::from_utf8(came).unwrap()
    });
    let mut pieces = ["one ", "", "and another"].into_iter().map(|piece| piece.as_bytes().to_vec());
    let wait = Duration::from_secs(5);
    let answer = http::request_in_pieces(addr, "POST", "/up", &[], &mut pieces, wait).unwrap();
    assert_eq!(answer.status, 202);
    let came = server.join().unwrap();
    let (head, body) = came.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains("Transfer-Encoding: chunked") && !head.contains("Content-Length"),
        "{head}"
    );
    assert_eq!(body, "4\r\none \r\nb\r\nand another\r\n0\r\n\r\n");
}

#[test]
fn an_idle_run_is_no_success() {
    let (mint, ledger, rows) = scenario();
    let judgement = ledger.judge(&far_end(rows, Ending::Whole).read_all(&mint).unwrap());
    let idle = Report { judgement, ..Report::default() };
    let violations = idle.violations(&Floor { acknowledged_min: 71, ..FLOOR });
    assert_eq!(violations.len(), 3, "{violations:?}");
    assert!(violations[0].contains("70 lines were acknowledged, not 71"), "{violations:?}");
}

#[test]
fn an_answer_cut_short_is_an_error_and_not_a_loss() {
    let (mint, _, rows) = scenario();
    let cut = far_end(rows.clone(), Ending::WithinTheBody).read_all(&mint).unwrap_err();
    assert!(cut.to_string().contains("broke"), "{cut}");
    let wrong = far_end(rows, Ending::WrongCount).read_all(&mint).unwrap_err();
    assert!(wrong.to_string().contains("70 rows came back, but count() says 71 to 71"), "{wrong}");
}

#[test]
fn no_connection_and_a_broken_one_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        drop(listener.accept().unwrap());
        drop(listener);
    });
    let wait = Duration::from_secs(5);
    let broken = http::request(addr, "POST", "/", &[], b"body", wait).unwrap_err();
    assert!(matches!(broken, http::Trouble::Broken { .. }), "{broken}");
    thread.join().unwrap();
    let refused = http::request(addr, "POST", "/", &[], b"body", wait).unwrap_err();
    assert!(matches!(refused, http::Trouble::Connect { .. }), "{refused}");
}

#[test]
fn the_mint_makes_the_same_line_again_and_no_two_alike() {
    let mint = Mint::new(7);
    let mut seen = std::collections::HashSet::new();
    for source in 0..3 {
        for number in 0..500 {
            let id = LineId { source, number };
            let text = mint.text(id);
            assert_eq!(text, Mint::new(7).text(id));
            assert_eq!(
                text,
                text.trim(),
                "white space at an end would not survive every transport"
            );
            assert!(!text.contains(['\n', '\r']), "a line is one line");
            assert_eq!(mint.judge(&format!("some prefix {text}")), Verdict::Good(id));
            assert!(seen.insert(text));
        }
    }
}

#[test]
fn the_table_shows_every_number() {
    let report = Report {
        judgement: judge(|_, rows| drop(rows.remove(7))),
        retries: 3,
        faults: 4,
        recoveries: [900, 100, 400].map(Duration::from_millis).to_vec(),
        ..Report::default()
    };
    let table = report.to_string();
    let lines: Vec<_> = table.lines().collect();
    let cells: Vec<_> = lines[2].split('|').map(str::trim).collect();
    assert_eq!(cells, ["", "70", "1", "0", "0", "0", "0", "3", "0.4 / 0.9 s", "4", ""]);
    assert_eq!(lines[0].len(), lines[1].len());
    assert_eq!(lines[3], "  lost: line 7 of file file");
}
