//! The variable parts of messages: what a `{kind}` slot of a template writes.
//!
//! Invariants: a slot draws only from the generator that it is given (so bytes depend on the seed
//! alone), and what it writes needs no escaping inside a JSON string.

use crate::rng::Rng;

/// The twenty services by name; also the values of `{svc}`.
pub(super) const SERVICES: [&str; 20] = [
    "gateway",
    "checkout",
    "cart",
    "catalog",
    "payments",
    "inventory",
    "shipping",
    "search",
    "recommender",
    "auth",
    "users",
    "notifications",
    "billing",
    "orders-db",
    "cache",
    "queue",
    "ingester",
    "scheduler",
    "media",
    "audit",
];
const METHODS: [&str; 8] = ["GET", "GET", "GET", "GET", "POST", "POST", "PUT", "DELETE"];
const CODES: [&str; 10] = ["200", "200", "200", "200", "200", "201", "204", "301", "304", "206"];
const RESOURCES: [&str; 12] = [
    "orders",
    "carts",
    "products",
    "users",
    "payments",
    "shipments",
    "invoices",
    "search",
    "sessions",
    "reviews",
    "coupons",
    "addresses",
];
const REGIONS: [&str; 8] = [
    "eu-west-1",
    "eu-west-2",
    "eu-north-1",
    "us-east-1",
    "us-east-2",
    "us-west-2",
    "ap-south-1",
    "ap-east-1",
];
const CURRENCIES: [&str; 5] = ["EUR", "EUR", "USD", "GBP", "SEK"];
const COUNTRIES: [&str; 10] = ["DE", "FR", "NL", "SE", "PL", "IT", "ES", "AT", "GB", "US"];
const CARRIERS: [&str; 5] = ["parcelone", "quickpost", "northline", "redvan", "seaway"];
const LOCALES: [&str; 8] = ["de-DE", "fr-FR", "nl-NL", "sv-SE", "pl-PL", "it-IT", "es-ES", "en-GB"];
const TABLES: [&str; 10] = [
    "orders",
    "order_lines",
    "payments",
    "products",
    "prices",
    "stock",
    "users",
    "addresses",
    "sessions",
    "ledger",
];
const TOPICS: [&str; 8] = [
    "orders.placed",
    "orders.paid",
    "stock.changed",
    "clicks",
    "mail.out",
    "prices",
    "audit.log",
    "sensor.raw",
];
const NAMES: [&str; 16] = [
    "anna", "bela", "carla", "dmitri", "elif", "farid", "greta", "hana", "ivan", "jonas", "kaya",
    "lena", "milos", "nadia", "oskar", "petra",
];
const LOGINS: [&str; 14] = [
    "admin",
    "test",
    "oracle",
    "postgres",
    "ubuntu",
    "guest",
    "webmaster",
    "pi",
    "git",
    "ftpuser",
    "nagios",
    "deploy",
    "hadoop",
    "support",
];
const DIRECTORIES: [&str; 8] = [
    "/var/lib/lake/segments",
    "/data/wal",
    "/srv/import/incoming",
    "/var/spool/batch",
    "/mnt/media/raw",
    "/opt/models/current",
    "/export/reports/2026",
    "/var/lib/queue/logs",
];
const EXTENSIONS: [&str; 6] = ["seg", "log", "csv", "bin", "parquet", "tmp"];

/// What a slot writes. The doc line of each variant is an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// `4711`: an integer in low..=high; wide ranges are skewed to small values as real counters
    /// are.
    Number(u64, u64),
    /// `10.3.117.9`
    Ip,
    /// `84.17.203.66`
    PublicIp,
    /// `41822`
    Port,
    /// `9f86d081`: lower-case hex of that many digits.
    Hex(u8),
    /// `5f0c6e1c-6d0b-4c7e-9f5a-0f3cf5f1f0b2`
    Uuid,
    /// `127us`
    Micros,
    /// `48.217ms`
    Millis,
    /// `3.41s`
    Seconds,
    /// `/api/v2/orders/918273/items`
    Path,
    /// `/data/wal/4f/part-00018273.seg`
    File,
    /// `GET`
    Method,
    /// `200`
    Code,
    /// `checkout`
    Service,
    /// `node-117.eu-west-1`
    Host,
    /// `cart-7c9d5f6b48-x2k4q`
    Pod,
    /// `eu-west-1`
    Region,
    /// `249.90`
    Money,
    /// `EUR`
    Currency,
    /// `DE`
    Country,
    /// `northline`
    Carrier,
    /// `de-DE`
    Locale,
    /// `order_lines`
    Table,
    /// `stock.changed`
    Topic,
    /// `petra.42`
    User,
    /// `petra4211@mail17.example`
    Email,
    /// `SKU-7F3A91`
    Sku,
    /// `ord_01hx7k2m9q`
    Order,
    /// `INV-2026-0481516`
    Invoice,
    /// `JD014600004718273645`
    Tracking,
    /// `93.1`
    Percent,
    /// `12.4MiB`
    Size,
    /// `v3.14.2`
    Version,
    /// `2026-11-27`
    Day,
    /// `17:42:09`
    Clock,
    /// `-1608999687919862906`: any 64 bits as a signed integer, as HDFS names its blocks.
    Signed,
    /// `webmaster`: a login that a guesser of passwords tries.
    Login,
}

impl Slot {
    /// The slot that `{name}` stands for, or `None` for a name that is not in the list.
    pub(super) fn parse(name: &str) -> Option<Self> {
        if let Some(range) = name.strip_prefix("n:") {
            let (low, high) = range.split_once('-')?;
            let (low, high) = (low.parse().ok()?, high.parse().ok()?);
            return (low <= high).then_some(Self::Number(low, high));
        }
        if let Some(digits) = name.strip_prefix('h').and_then(|text| text.parse::<u8>().ok()) {
            return (1..=32).contains(&digits).then_some(Self::Hex(digits));
        }
        Some(match name {
            "ip" => Self::Ip,
            "xip" => Self::PublicIp,
            "port" => Self::Port,
            "uuid" => Self::Uuid,
            "us" => Self::Micros,
            "ms" => Self::Millis,
            "sec" => Self::Seconds,
            "path" => Self::Path,
            "file" => Self::File,
            "method" => Self::Method,
            "code" => Self::Code,
            "svc" => Self::Service,
            "host" => Self::Host,
            "pod" => Self::Pod,
            "region" => Self::Region,
            "money" => Self::Money,
            "cur" => Self::Currency,
            "country" => Self::Country,
            "carrier" => Self::Carrier,
            "locale" => Self::Locale,
            "table" => Self::Table,
            "topic" => Self::Topic,
            "user" => Self::User,
            "email" => Self::Email,
            "sku" => Self::Sku,
            "order" => Self::Order,
            "invoice" => Self::Invoice,
            "track" => Self::Tracking,
            "pct" => Self::Percent,
            "size" => Self::Size,
            "ver" => Self::Version,
            "day" => Self::Day,
            "clock" => Self::Clock,
            "i64" => Self::Signed,
            "login" => Self::Login,
            _ => return None,
        })
    }

    /// Appends a random value of this kind to `out`.
    pub(super) fn write(self, rng: &mut Rng, out: &mut Vec<u8>) {
        match self {
            Self::Number(low, high) => number(out, skewed(rng, low, high)),
            Self::Ip => write_ip(out, 10, rng.next_u64()),
            Self::PublicIp => write_ip(out, 20 + rng.below(180), rng.next_u64()),
            Self::Port => number(out, rng.between(1024, 65535)),
            Self::Hex(digits) => write_hex(out, rng, digits),
            Self::Uuid => write_uuid(out, rng),
            Self::Micros => {
                number(out, skewed(rng, 4, 90_000));
                out.extend_from_slice(b"us");
            }
            Self::Millis => write_decimal(out, skewed(rng, 300, 4_000_000), 3, b"ms"),
            Self::Seconds => write_decimal(out, skewed(rng, 5, 90_000), 2, b"s"),
            Self::Path => write_path(out, rng),
            Self::File => write_file(out, rng),
            Self::Method => text(out, rng.pick(&METHODS)),
            Self::Code => text(out, rng.pick(&CODES)),
            Self::Service => text(out, rng.pick(&SERVICES)),
            Self::Host => write_host(out, rng),
            Self::Pod => write_pod(out, rng),
            Self::Region => text(out, rng.pick(&REGIONS)),
            Self::Money => write_decimal(out, skewed(rng, 90, 400_000), 2, b""),
            Self::Currency => text(out, rng.pick(&CURRENCIES)),
            Self::Country => text(out, rng.pick(&COUNTRIES)),
            Self::Carrier => text(out, rng.pick(&CARRIERS)),
            Self::Locale => text(out, rng.pick(&LOCALES)),
            Self::Table => text(out, rng.pick(&TABLES)),
            Self::Topic => text(out, rng.pick(&TOPICS)),
            other => other.write_name(rng, out),
        }
    }

    /// The kinds that name a thing by letters and digits together.
    fn write_name(self, rng: &mut Rng, out: &mut Vec<u8>) {
        match self {
            Self::User => {
                text(out, rng.pick(&NAMES));
                out.push(b'.');
                number(out, rng.below(100));
            }
            Self::Email => {
                text(out, rng.pick(&NAMES));
                number(out, rng.below(10_000));
                out.extend_from_slice(b"@mail");
                number(out, rng.below(40));
                out.extend_from_slice(b".example");
            }
            Self::Sku => {
                out.extend_from_slice(b"SKU-");
                write_digits(out, rng.next_u64(), 6, b"0123456789ABCDEF");
            }
            Self::Order => {
                out.extend_from_slice(b"ord_01h");
                write_digits(out, rng.next_u64(), 9, BASE32);
            }
            Self::Invoice => {
                out.extend_from_slice(b"INV-2026-");
                padded(out, rng.below(10_000_000), 7);
            }
            Self::Tracking => {
                out.extend_from_slice(b"JD0146");
                padded(out, rng.below(100_000_000_000_000), 14);
            }
            Self::Percent => write_decimal(out, rng.below(1000), 1, b""),
            Self::Size => {
                let unit: &str = rng.pick(&["KiB", "MiB", "MiB", "GiB"]);
                write_decimal(out, skewed(rng, 1, 9999), 1, unit.as_bytes());
            }
            Self::Version => {
                out.push(b'v');
                number(out, rng.between(1, 9));
                out.push(b'.');
                number(out, rng.below(30));
                out.push(b'.');
                number(out, rng.below(12));
            }
            Self::Signed => {
                let value = rng.next_u64() as i64;
                out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
            }
            Self::Login => {
                text(out, rng.pick(&LOGINS));
                if rng.one_in(3) {
                    number(out, rng.below(100));
                }
            }
            Self::Day => {
                out.extend_from_slice(b"2026-");
                padded(out, rng.between(1, 12), 2);
                out.push(b'-');
                padded(out, rng.between(1, 28), 2);
            }
            Self::Clock => {
                padded(out, rng.below(24), 2);
                out.push(b':');
                padded(out, rng.below(60), 2);
                out.push(b':');
                padded(out, rng.below(60), 2);
            }
            other => unreachable!("Slot::write handles {other:?}"),
        }
    }
}

/// The two digits of each byte, low one first: half of the workload's variable bytes are hex.
const HEX_PAIRS: [[u8; 2]; 256] = {
    let hex = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [hex[byte & 15], hex[byte >> 4]];
        byte += 1;
    }
    pairs
};
/// Crockford's alphabet, as order ids use it.
const BASE32: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Kubernetes names are made of these: no vowels, so no words.
const POD_LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

fn text(out: &mut Vec<u8>, value: &str) {
    out.extend_from_slice(value.as_bytes());
}

/// Appends a decimal integer.
pub(super) fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends `value` with zeros in front up to `width` digits.
pub(super) fn padded(out: &mut Vec<u8>, value: u64, width: usize) {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(value).as_bytes();
    out.extend(std::iter::repeat_n(b'0', width.saturating_sub(digits.len())));
    out.extend_from_slice(digits);
}

/// Uniform over narrow ranges; over wide ones a product of two draws, so that small values are
/// common.
fn skewed(rng: &mut Rng, low: u64, high: u64) -> u64 {
    let span = high - low + 1;
    if span < 1000 {
        return low + rng.below(span);
    }
    let r = rng.next_u64();
    let product = (r >> 32) * (r & 0xffff_ffff);
    low + ((u128::from(product) * u128::from(span)) >> 64) as u64
}

fn write_ip(out: &mut Vec<u8>, first: u64, random: u64) {
    number(out, first);
    for shift in [0, 8, 16] {
        out.push(b'.');
        number(out, (random >> shift) & 0xff);
    }
}

/// Appends `digits` lower-case hex digits of `random`, lowest first.
pub(super) fn write_digits(out: &mut Vec<u8>, mut random: u64, digits: usize, set: &[u8]) {
    let base = set.len() as u64;
    for _ in 0..digits {
        out.push(set[(random % base) as usize]);
        random /= base;
    }
}

fn write_hex(out: &mut Vec<u8>, rng: &mut Rng, digits: u8) {
    let mut left = usize::from(digits);
    while left > 0 {
        let now = left.min(16);
        hex_fixed(out, rng.next_u64(), now);
        left -= now;
    }
}

/// Appends the low `digits` (at most 16) hex digits of `random`.
pub(super) fn hex_fixed(out: &mut Vec<u8>, random: u64, digits: usize) {
    let mut buffer = [0u8; 16];
    for (pair, byte) in buffer.chunks_exact_mut(2).zip(random.to_le_bytes()) {
        pair.copy_from_slice(&HEX_PAIRS[usize::from(byte)]);
    }
    out.extend_from_slice(&buffer[..digits]);
}

fn write_uuid(out: &mut Vec<u8>, rng: &mut Rng) {
    let (a, b) = (rng.next_u64(), rng.next_u64());
    hex_fixed(out, a, 8);
    out.push(b'-');
    hex_fixed(out, a >> 32, 4);
    out.extend_from_slice(b"-4");
    hex_fixed(out, a >> 48, 3);
    out.push(b'-');
    out.push(b"89ab"[(a >> 62) as usize]);
    hex_fixed(out, b >> 48, 3);
    out.push(b'-');
    hex_fixed(out, b, 12);
}

/// Appends `value / 10^places` with exactly `places` decimals and the unit.
fn write_decimal(out: &mut Vec<u8>, value: u64, places: u32, unit: &[u8]) {
    let scale = 10u64.pow(places);
    number(out, value / scale);
    out.push(b'.');
    padded(out, value % scale, places as usize);
    out.extend_from_slice(unit);
}

fn write_path(out: &mut Vec<u8>, rng: &mut Rng) {
    out.extend_from_slice(b"/api/v");
    number(out, rng.between(1, 3));
    out.push(b'/');
    text(out, rng.pick(&RESOURCES));
    match rng.below(4) {
        0 => {}
        1 => {
            out.extend_from_slice(b"?page=");
            number(out, rng.below(90));
        }
        detail => {
            out.push(b'/');
            number(out, rng.below(9_000_000));
            if detail == 3 {
                out.extend_from_slice(b"/items");
            }
        }
    }
}

fn write_file(out: &mut Vec<u8>, rng: &mut Rng) {
    text(out, rng.pick(&DIRECTORIES));
    out.push(b'/');
    hex_fixed(out, rng.next_u64(), 2);
    out.extend_from_slice(b"/part-");
    padded(out, rng.below(100_000_000), 8);
    out.push(b'.');
    text(out, rng.pick(&EXTENSIONS));
}

/// The name of host number `index` of the fleet.
pub(super) fn host_name(out: &mut Vec<u8>, index: u64) {
    out.extend_from_slice(b"node-");
    padded(out, index, 3);
    out.push(b'.');
    text(out, REGIONS[(index % 4) as usize]);
}

fn write_host(out: &mut Vec<u8>, rng: &mut Rng) {
    host_name(out, rng.below(super::fleet::HOSTS as u64));
}

/// A pod name as a ReplicaSet would give it.
pub(super) fn pod_name(out: &mut Vec<u8>, service: &str, random: u64) {
    text(out, service);
    out.push(b'-');
    write_digits(out, random, 9, POD_LETTERS);
    out.push(b'-');
    write_digits(out, random >> 40, 5, POD_LETTERS);
}

fn write_pod(out: &mut Vec<u8>, rng: &mut Rng) {
    pod_name(out, rng.pick(&SERVICES), rng.next_u64());
}
