//! Something bounded that tenants share: memory of inserts, room in the queue, places for queries.
//!
//! Invariants:
//! - no more is given than there is;
//! - one tenant alone may have all of it;
//! - where there are several, one that holds something leaves free a third of what it holds, so that
//!   who comes next finds room; one that holds nothing may have whatever is free. Not so where each
//!   holds for a moment only, as of turns on the processor: there nobody leaves anything unused;
//! - what becomes free goes to that waiting tenant which holds least; within a tenant to who waits
//!   longest.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use lodge_record::TenantId;
use tokio::sync::oneshot;

/// Of what it leaves free a tenant may hold so many times as much.
const HELD_TO_FREE: usize = 3;

/// What is shared. Clones are of the same.
#[derive(Debug, Clone)]
pub struct Shares {
    total: usize,
    leaves_room: bool,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    free: usize,
    /// Of each tenant that holds something.
    held: HashMap<TenantId, usize>,
    waiting: HashMap<TenantId, VecDeque<Waiting>>,
    /// The only tenant that ever asked.
    only: Option<TenantId>,
    is_shared: bool,
}

#[derive(Debug)]
struct Waiting {
    units: usize,
    give: oneshot::Sender<Share>,
}

/// Units that a tenant holds; given back when dropped.
#[derive(Debug)]
pub struct Share {
    of: Shares,
    tenant: TenantId,
    units: usize,
}

impl Shares {
    /// So many units.
    pub fn new(total: usize) -> Self {
        let state = State { free: total, ..State::default() };
        Self { total, leaves_room: true, state: Arc::new(Mutex::new(state)) }
    }

    /// So many turns, each held for a moment: who holds some need not leave any free.
    pub fn turns(total: usize) -> Self {
        Self { leaves_room: false, ..Self::new(total) }
    }

    /// Whether more than one tenant has asked.
    pub fn is_shared(&self) -> bool {
        self.state().is_shared
    }

    /// All units there are.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Units that nobody holds.
    pub fn free(&self) -> usize {
        self.state().free
    }

    /// Units for a tenant, if it may have them now. More than there are is never given.
    pub fn try_take(&self, tenant: &TenantId, units: usize) -> Option<Share> {
        let mut state = self.state();
        state.meet(tenant);
        state.take(tenant, units, self.leaves_room).then(|| self.share(tenant, units))
    }

    /// As [`Shares::try_take`], and waits until it may. Who stops waiting gets nothing.
    pub async fn take(&self, tenant: &TenantId, units: usize) -> Share {
        let given = {
            let mut state = self.state();
            state.meet(tenant);
            // Who waits longer comes first.
            let is_first = state.waiting.get(tenant).is_none_or(VecDeque::is_empty);
            if is_first && state.take(tenant, units, self.leaves_room) {
                return self.share(tenant, units);
            }
            let (give, given) = oneshot::channel();
            let line = state.waiting.entry(tenant.clone()).or_default();
            // Those that have gone are not kept for longer than others come.
            line.retain(|waiting| !waiting.give.is_closed());
            line.push_back(Waiting { units, give });
            given
        };
        match given.await {
            Ok(share) => share,
            // Never: what waits is only removed to be given something, or when it has gone.
            Err(_) => std::future::pending().await,
        }
    }

    fn share(&self, tenant: &TenantId, units: usize) -> Share {
        Share { of: self.clone(), tenant: tenant.clone(), units }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, tenant: &TenantId, units: usize) {
        let mut given = Vec::new();
        let mut state = self.state();
        state.free += units;
        if let Some(held) = state.held.get_mut(tenant) {
            *held = held.saturating_sub(units);
            if *held == 0 {
                state.held.remove(tenant);
            }
        }
        while let Some((tenant, waiting)) = state.next(self.leaves_room) {
            given.push((self.share(&tenant, waiting.units), waiting.give));
        }
        drop(state);
        for (share, give) in given {
            // Who has gone meanwhile gives it back here.
            give.send(share).ok();
        }
    }
}

impl State {
    fn meet(&mut self, tenant: &TenantId) {
        match &self.only {
            _ if self.is_shared => {}
            None => self.only = Some(tenant.clone()),
            Some(only) => self.is_shared = only != tenant,
        }
    }

    fn may_take(&self, tenant: &TenantId, units: usize, leaves_room: bool) -> bool {
        let held = self.held.get(tenant).copied().unwrap_or(0);
        let Some(left) = self.free.checked_sub(units) else { return false };
        !self.is_shared
            || !leaves_room
            || held == 0
            || held + units <= left.saturating_mul(HELD_TO_FREE)
    }

    fn take(&mut self, tenant: &TenantId, units: usize, leaves_room: bool) -> bool {
        let may = self.may_take(tenant, units, leaves_room);
        if may && units > 0 {
            self.free -= units;
            *self.held.entry(tenant.clone()).or_default() += units;
        }
        may
    }

    /// Takes for who is next, if there is somebody who may have what it waits for.
    fn next(&mut self, leaves_room: bool) -> Option<(TenantId, Waiting)> {
        for line in self.waiting.values_mut() {
            while line.front().is_some_and(|waiting| waiting.give.is_closed()) {
                line.pop_front();
            }
        }
        self.waiting.retain(|_, line| !line.is_empty());
        let held = |tenant: &TenantId| self.held.get(tenant).copied().unwrap_or(0);
        let fitting = self.waiting.iter().filter(|(tenant, line)| {
            line.front().is_some_and(|waiting| self.may_take(tenant, waiting.units, leaves_room))
        });
        let next = fitting.map(|(tenant, _)| tenant).min_by_key(|tenant| held(tenant))?.clone();
        let waiting = self.waiting.get_mut(&next)?.pop_front()?;
        self.take(&next, waiting.units, leaves_room);
        Some((next, waiting))
    }
}

impl Share {
    /// Adds another share of the same tenant.
    pub fn merge(&mut self, mut other: Share) {
        self.units += std::mem::take(&mut other.units);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.units > 0 {
            self.of.give_back(&self.tenant, self.units);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    #[test]
    fn one_tenant_may_have_all_and_of_two_neither() {
        let (shares, a, b) = (Shares::new(16), tenant("a"), tenant("b"));
        let all = shares.try_take(&a, 16).unwrap();
        assert!(shares.try_take(&b, 1).is_none());
        drop(all);

        let of_a: Vec<Share> = std::iter::from_fn(|| shares.try_take(&a, 1)).collect();
        assert_eq!((of_a.len(), shares.free()), (12, 4));
        let of_b: Vec<Share> = std::iter::from_fn(|| shares.try_take(&b, 1)).collect();
        assert_eq!((of_b.len(), shares.free()), (3, 1));
        // There is something left for who comes next, but not more than there is.
        assert!(shares.try_take(&tenant("c"), 2).is_none());
        let of_c = shares.try_take(&tenant("c"), 1).unwrap();
        assert!(shares.try_take(&tenant("d"), 1).is_none());
        drop((of_a, of_b, of_c));
        assert_eq!(shares.free(), 16);
        assert!(shares.state().held.is_empty());
    }

    #[tokio::test]
    async fn turns_are_all_used_and_go_round() {
        let (turns, a, b) = (Shares::turns(2), tenant("a"), tenant("b"));
        drop(turns.take(&b, 1).await);
        let (first, second) = (turns.take(&a, 1).await, turns.take(&a, 1).await);
        assert!(turns.is_shared() && turns.free() == 0);
        let a_waits = tokio::spawn({
            let (turns, a) = (turns.clone(), a.clone());
            async move { turns.take(&a, 1).await }
        });
        tokio::task::yield_now().await;
        let b_waits = tokio::spawn(async move { turns.take(&b, 1).await });
        tokio::task::yield_now().await;
        drop(first);
        let of_b = b_waits.await.unwrap();
        assert!(!a_waits.is_finished());
        drop((second, of_b));
        a_waits.await.unwrap();
    }

    #[test]
    fn shares_of_a_tenant_are_merged() {
        let (shares, a) = (Shares::new(10), tenant("a"));
        let mut held = shares.try_take(&a, 3).unwrap();
        held.merge(shares.try_take(&a, 4).unwrap());
        assert_eq!(shares.free(), 3);
        assert!(shares.try_take(&a, 4).is_none());
        drop(held);
        assert_eq!(shares.free(), 10);
    }

    #[tokio::test]
    async fn what_becomes_free_goes_to_who_holds_least() {
        let (shares, a, b) = (Shares::new(2), tenant("a"), tenant("b"));
        let mut held = vec![shares.try_take(&a, 1).unwrap(), shares.try_take(&a, 1).unwrap()];
        let waiter = |name: &TenantId| {
            let (shares, name) = (shares.clone(), name.clone());
            tokio::spawn(async move { shares.take(&name, 1).await })
        };
        let a_waits = waiter(&a);
        tokio::task::yield_now().await;
        let gone = waiter(&b);
        tokio::task::yield_now().await;
        let b_waits = waiter(&b);
        tokio::task::yield_now().await;
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        drop(held.pop());
        let of_b = b_waits.await.unwrap();
        assert!(!a_waits.is_finished(), "a holds one already");
        drop(held);
        let of_a = a_waits.await.unwrap();
        drop((of_a, of_b));
        assert_eq!(shares.free(), 2);
    }
}
