//! A record that is a JSON object, field by field.

use lodge_record::builder::{BatchBuilder, Place};
use lodge_record::stream::StreamLabels;
use lodge_wire::json_object::{Guess, JsonValue, Leaves};
use lodge_wire::json_order::Order;
use lodge_wire::jsonline::set_field;

use super::slots::{Meaning, Slots};

/// What is known of a field of JSON objects.
#[derive(Debug)]
pub struct Known {
    meaning: Meaning,
    /// Where its values went last.
    place: Option<Place>,
}

/// A record in hand.
pub struct Object<'p> {
    /// The fields of the records before.
    pub order: &'p mut Order<Known>,
    /// Takes the fields with a purpose.
    pub slots: &'p mut Slots,
    /// Takes the others.
    pub builder: &'p mut BatchBuilder,
    /// Labels of the file's stream.
    pub labels: &'p StreamLabels,
}

impl Object<'_> {
    #[inline]
    fn take(&mut self, at: usize, value: JsonValue<'_>) {
        let Some((name, known)) = self.order.get_mut(at) else { return };
        if self.slots.take(name, known.meaning, value) {
            return;
        }
        match known.place.filter(|place| self.builder.holds(*place)) {
            Some(place) => self.builder.set_at(place, value.as_field()),
            None => known.place = self.builder.set(name, value.as_field()),
        }
    }
}

impl Leaves for Object<'_> {
    #[inline]
    fn guesses(&self) -> [Option<&Guess>; 2] {
        self.order.guesses()
    }

    #[inline]
    fn guessed(&mut self, guess: usize, value: JsonValue<'_>) {
        let at = self.order.guessed(guess);
        self.take(at, value);
    }

    fn leaf(&mut self, name: &str, value: JsonValue<'_>) {
        if let Some(at) = self.order.find(name) {
            return self.take(at, value);
        }
        let meaning = Meaning::of(name, self.labels);
        match self.order.add(name, Known { meaning, place: None }) {
            Some(at) => self.take(at, value),
            None if self.slots.take(name, meaning, value) => {}
            None => set_field(self.builder, name, &value),
        }
    }
}
