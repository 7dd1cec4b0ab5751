//! What waits to be committed, in turns by tenant: one that sends much delays another by one batch,
//! not by all that it has sent.
//!
//! Invariant: the batches of a tenant keep their order.

use std::collections::{HashMap, VecDeque};

use lodge_record::TenantId;

/// Things by tenant.
#[derive(Debug)]
pub(crate) struct Turns<T> {
    lines: HashMap<TenantId, VecDeque<T>>,
    /// The tenants that have something, whose turn it is first.
    order: VecDeque<TenantId>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { lines: HashMap::new(), order: VecDeque::new() }
    }
}

impl<T> Turns<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The tenants that wait.
    pub(crate) fn tenants(&self) -> impl Iterator<Item = &TenantId> {
        self.order.iter()
    }

    pub(crate) fn push(&mut self, tenant: &TenantId, item: T) {
        match self.lines.get_mut(tenant) {
            Some(line) => line.push_back(item),
            None => {
                self.lines.insert(tenant.clone(), VecDeque::from([item]));
                self.order.push_back(tenant.clone());
            }
        }
    }

    /// The next item of the first tenant that `may` have its turn, if that item `fits`; the tenant's
    /// next turn comes after all others'.
    pub(crate) fn take(
        &mut self,
        may: impl Fn(&TenantId) -> bool,
        fits: impl Fn(&T) -> bool,
    ) -> Option<T> {
        let place = self.order.iter().position(may)?;
        let line = self.lines.get_mut(self.order.get(place)?)?;
        let item = line.pop_front_if(|item| fits(item))?;
        let tenant = self.order.remove(place)?;
        match line.is_empty() {
            true => drop(self.lines.remove(&tenant)),
            false => self.order.push_back(tenant),
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn tenants_take_turns_and_each_keeps_its_order() {
        let [a, b, c] = ["a", "b", "c"].map(|name| name.parse::<TenantId>().unwrap());
        let mut turns = Turns::default();
        for n in 0..4 {
            turns.push(&a, n);
        }
        turns.push(&b, 10);
        turns.push(&c, 20);
        turns.push(&b, 11);
        let mut next = |may: &dyn Fn(&TenantId) -> bool| turns.take(may, |_| true);
        assert_eq!([(); 4].map(|()| next(&|_| true).unwrap()), [0, 10, 20, 1]);
        assert_eq!(next(&|tenant| *tenant == a), Some(2), "who may not is passed over");
        assert_eq!(next(&|tenant| *tenant == c), None);
        assert_eq!([(); 3].map(|()| next(&|_| true)), [Some(11), Some(3), None]);
        assert!(turns.is_empty());
    }

    #[test]
    fn what_does_not_fit_keeps_its_place() {
        let a = TenantId::default();
        let mut turns = Turns::default();
        turns.push(&a, 5);
        turns.push(&a, 1);
        assert_eq!(turns.take(|_| true, |n| *n < 5), None);
        assert_eq!(turns.take(|_| true, |_| true), Some(5));
        assert_eq!(turns.tenants().count(), 1);
    }
}
