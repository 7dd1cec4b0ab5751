//! The fleet's services and message templates, read from `templates.txt`.
//!
//! Invariants: literals are kept JSON-escaped, so writing a message is copying; a fault in
//! `templates.txt` is a bug of ours and stops the program with the line's number.

use super::super::Level;
use super::super::pieces::{Pieces, Scene};
use crate::rng::Rng;

const SOURCE: &str = include_str!("templates.txt");

/// One service of the fleet with its messages.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: &'static str,
    pub(super) namespace: &'static str,
    /// Its share of all records, relative to the other services'.
    pub(super) weight: u64,
    pub(super) pods: usize,
    /// By level: each template as often as its weight says, so that a choice is one draw.
    by_level: [Vec<u16>; Level::ALL.len()],
}

/// All services and templates.
#[derive(Debug)]
pub(super) struct Catalogue {
    pub(super) services: Vec<Service>,
    templates: Vec<Pieces>,
}

impl Catalogue {
    /// Parses the built-in list.
    pub(super) fn load() -> Self {
        let mut catalogue = Self { services: Vec::new(), templates: Vec::new() };
        for (index, line) in SOURCE.lines().enumerate() {
            let known = line.is_empty()
                || line.starts_with('#')
                || catalogue.read_service(line)
                || catalogue.read_template(line);
            assert!(known, "templates.txt line {}: cannot read {line:?}", index + 1);
        }
        for service in &catalogue.services {
            let complete = service.by_level.iter().all(|list| !list.is_empty());
            assert!(complete, "{} lacks messages of some level", service.name);
        }
        catalogue
    }

    /// How many templates there are.
    pub(super) fn templates(&self) -> usize {
        self.templates.len()
    }

    /// A template of this service and level.
    #[inline]
    pub(super) fn choose(&self, service: usize, level: Level, rng: &mut Rng) -> u16 {
        let list = &self.services[service].by_level[level as usize];
        list[rng.below(list.len() as u64) as usize]
    }

    /// Appends the JSON-escaped text of a template with fresh variables.
    #[inline]
    pub(super) fn write(&self, template: u16, scene: Scene<'_>, rng: &mut Rng, out: &mut Vec<u8>) {
        self.templates[usize::from(template)].write(scene, rng, out);
    }

    fn read_service(&mut self, line: &'static str) -> bool {
        let Some(inner) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else {
            return false;
        };
        let words: Vec<&'static str> = inner.split(' ').collect();
        let &[name, namespace, weight, pods] = words.as_slice() else {
            return false;
        };
        let (Ok(weight), Ok(pods)) = (weight.parse(), pods.parse()) else {
            return false;
        };
        let by_level = Default::default();
        self.services.push(Service { name, namespace, weight, pods, by_level });
        true
    }

    fn read_template(&mut self, line: &str) -> bool {
        let mut words = line.splitn(3, ' ');
        let (Some(level), Some(weight), Some(text)) = (words.next(), words.next(), words.next())
        else {
            return false;
        };
        let (Some(level), Ok(weight)) = (Level::from_letter(level), weight.parse::<usize>()) else {
            return false;
        };
        let (Some(service), Some(pieces)) = (self.services.last_mut(), Pieces::parse(text)) else {
            return false;
        };
        let id = self.templates.len() as u16;
        self.templates.push(pieces);
        service.by_level[level as usize].extend(std::iter::repeat_n(id, weight));
        true
    }
}
