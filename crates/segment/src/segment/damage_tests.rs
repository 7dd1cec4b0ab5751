//! Damage below right checksums, as a faulty or hostile writer would make it: whatever is asked of
//! such a segment ends with an answer or an error.

use bytes::Bytes;
use lodge_record::builder::BatchBuilder;
use lodge_record::field;

use super::directory::Directory;
use super::{Segment, Source, ask, build, merge};
use crate::SegmentError;
use crate::predicate::{FieldTest, NumberRange, Phrase, Predicate};
use crate::sections::SectionWriter;

const ROWS: usize = 400;
const CASES: u64 = 6_000;

/// Numbers that follow from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) as usize % end.max(1)
    }

    /// Changes some bytes, or leaves some out, or doubles some.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            let byte = [0, 1, 0x7f, 0x80, 0xff, self.below(256) as u8][self.below(6)];
            match self.below(8) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at.min(bytes.len()), byte),
                _ => {
                    if let Some(place) = bytes.get_mut(at) {
                        *place = byte;
                    }
                }
            }
        }
    }
}

/// A segment with every kind of column, and messages of some templates and of none.
fn whole() -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    let mut random = Random(7);
    for row in 0..ROWS {
        let stream = builder.stream(&format!("{{app=\"a{}\"}}", random.below(3)));
        builder.field_str("level", ["info", "error"][random.below(2)]);
        builder.field_str("trace_id", &format!("{:032x}", random.below(1 << 30)));
        builder.field_str("ip", &format!("10.0.{}.{}", random.below(256), random.below(256)));
        builder.field_str("free", &"x y".repeat(random.below(9)));
        builder.field_i64("status", 200 + random.below(4) as i64);
        if random.below(3) == 0 {
            builder.field_number_text("took", &format!("{}.{:03}", random.below(90), row % 1000));
        }
        if random.below(2) == 0 {
            builder.field_bool("ok", row % 2 == 0);
        }
        builder.message(&match random.below(4) {
            0 => format!("GET /items/{} took {}ms", random.below(9_000), random.below(500)),
            1 => format!("user u{} from 10.1.2.{}", random.below(1_000), random.below(256)),
            2 => format!("id {:016x} closed {:04}", random.below(1 << 30), random.below(1_000)),
            _ => format!("panic\n\tat {} «{}»", "z".repeat(random.below(40)), random.below(9)),
        });
        builder.finish_row(1_700_000_000_000_000_000 + row as i64 * 1_000_003, stream);
    }
    build(&[builder.finish().expect("a batch")]).expect("a segment").0
}

/// The segment with one of its sections, or what the directory says of a column, damaged.
fn damaged(whole: &Bytes, random: &mut Random) -> Bytes {
    let segment = Segment::open(whole, whole.len() as u64).expect("opens");
    ask(&segment, whole, |segment| segment.sections().require_all()).expect("is whole");
    let mut directory = Directory::parse(whole, whole.len() as u64).expect("opens");
    let victim = random.below(directory.spans.len() + directory.columns.len());
    let mut out = Vec::new();
    let mut writer = SectionWriter::new(&mut out).expect("a writer");
    for no in 0..directory.spans.len() {
        let mut bytes = segment.sections().get(no as u32).expect("is there").to_vec();
        if no == victim {
            random.damage(&mut bytes);
        }
        writer.plain(&bytes).expect("fits");
    }
    if let Some(column) = victim.checked_sub(directory.spans.len()) {
        random.damage(&mut directory.columns[column].meta);
    }
    let (out, _, spans) = writer.finish();
    directory.spans = spans;
    directory.write(out).expect("fits");
    Bytes::from(std::mem::take(out))
}

fn predicates() -> Vec<Predicate> {
    let message = |test| Predicate::field(field::MSG, test);
    let regex = FieldTest::regex("(GET|id) [/a-z0-9]+.*[0-9]+(ms|$)").expect("an expression");
    vec![
        message(FieldTest::Contains(Phrase::whole("took"))),
        message(FieldTest::Contains(Phrase::whole("u77"))),
        message(FieldTest::Contains(Phrase::prefix("10"))),
        message(FieldTest::Substring("tem".into())),
        message(FieldTest::Substring("10.1".into())),
        message(regex.clone()),
        message(FieldTest::exact("user u7 from 10.1.2.3")),
        Predicate::field("free", regex),
        Predicate::field("trace_id", FieldTest::exact(&format!("{:032x}", 77))),
        Predicate::field("ip", FieldTest::Contains(Phrase::whole("10"))),
        Predicate::field("level", FieldTest::exact("error")),
        Predicate::field("absent", FieldTest::Empty),
        Predicate::field(
            "took",
            FieldTest::Number(NumberRange { min: 3.0, min_open: false, max: 60.0, max_open: true }),
        ),
        Predicate::field("status", FieldTest::exact("201")),
    ]
}

/// Asks all there is to ask; gives how many answers were errors.
fn interrogate(bytes: &Bytes, predicates: &[Predicate]) -> usize {
    let mut errors = 0;
    let mut heard = |result: Result<(), SegmentError>| match result {
        Ok(()) => {}
        Err(SegmentError::Missing(_)) => unreachable!("what is missing is supplied"),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            errors += 1;
        }
    };
    let segment = match Segment::open(bytes, bytes.len() as u64) {
        Ok(segment) => segment,
        Err(_) => return 1,
    };
    for predicate in predicates {
        heard(ask(&segment, bytes, |s| s.prepare(predicate)).and_then(|prepared| {
            let rows = ask(&segment, bytes, |s| s.select(&prepared, 0, None))?;
            ask(&segment, bytes, |s| s.read(0, &[field::MSG, "ip"], Some(&rows))).map(drop)
        }));
    }
    let schema = segment.schema().clone();
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    for name in &names {
        heard(ask(&segment, bytes, |s| s.groups(0, name, None)).map(drop));
        heard(ask(&segment, bytes, |s| s.numbers(0, name, None)).map(drop));
        heard(ask(&segment, bytes, |s| s.patterns(0, name, None)).map(drop));
    }
    heard(ask(&segment, bytes, |s| s.read(0, &names, None)).map(drop));
    let sources = || Ok::<_, SegmentError>([Source::open(bytes)?, Source::open(bytes)?]);
    heard(sources().and_then(|sources| merge(&sources, 1 << 20)).map(drop));
    errors
}

#[test]
fn damage_below_right_checksums_is_an_answer_or_an_error_fuzz() {
    let whole = Bytes::from(whole());
    let predicates = predicates();
    assert_eq!(interrogate(&whole, &predicates), 0);
    let mut random = Random(11);
    let mut noticed = 0u64;
    for _ in 0..CASES {
        let damaged = damaged(&whole, &mut random);
        noticed += u64::from(interrogate(&damaged, &predicates) > 0);
    }
    assert!(noticed > CASES / 4, "{noticed} of {CASES} were noticed");
}
