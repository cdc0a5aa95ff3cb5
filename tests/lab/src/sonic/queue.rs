//! The queue of tasks of every SONiC daemon.
//!
//! Owns: how changes to one key are merged, and that a task which cannot be done now stays.
//! Must never: do I/O, or know the meaning of a task.

use std::collections::BTreeMap;

use super::database::Fields;

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// The row is gone.
    Del,
    /// The row has these fields.
    Set(Fields),
}

/// The result of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Finished: carried out, or refused for good.
    Done,
    /// Cannot be done now, for this reason. The task stays queued.
    Retry(String),
    /// The daemon's code throws, for this reason. The task stays queued, and nothing behind it is tried.
    // sonic-swss orchagent/orch.cpp: Consumer::drain (the exception leaves doTask, and is caught around it)
    Throw(String),
}

/// Pending tasks by key: at most one DEL, and at most one SET behind it.
#[derive(Debug, Default)]
pub struct Queue {
    pending: BTreeMap<String, Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    del: Option<Waiting<()>>,
    set: Option<Waiting<Fields>>,
}

/// A queued task, and why it was not done the last time.
#[derive(Debug, Default)]
struct Waiting<T> {
    task: T,
    reason: Option<String>,
}

impl Queue {
    /// Queues a task.
    // sonic-swss orchagent/orch.cpp: ConsumerBase::addToSync
    pub fn add(&mut self, key: &str, task: Task) {
        let pending = self.pending.entry(key.to_owned()).or_default();
        match task {
            // A DEL makes everything before it pointless.
            Task::Del => *pending = Pending { del: Some(Waiting::default()), set: None },
            // A SET never cancels a DEL: it waits behind it, and joins a SET that is already there.
            Task::Set(fields) => pending.set.get_or_insert_default().task.extend(fields),
        }
    }

    /// Offers every pending task, keys in order, a DEL before the SET behind it. A DEL that must be retried does not
    /// hold back its SET; one that throws holds back everything behind it. `log` gets a reason to wait once, not at
    /// every retry. Returns whether any task is finished.
    // sonic-swss cfgmgr/intfmgr.cpp: IntfMgr::doTask (`it++; continue;` goes on to the SET of the same key)
    pub fn drain<E>(
        &mut self,
        mut log: impl FnMut(&str, &str),
        mut handle: impl FnMut(&str, &Task) -> Result<Verdict, E>,
    ) -> Result<bool, E> {
        let before = self.len();
        for (key, pending) in &mut self.pending {
            if pending.del.is_some() {
                let verdict = handle(key, &Task::Del)?;
                if settle(&mut pending.del, verdict, |reason| log(key, reason)) {
                    break;
                }
            }
            if let Some(set) = &pending.set {
                let verdict = handle(key, &Task::Set(set.task.clone()))?;
                if settle(&mut pending.set, verdict, |reason| log(key, reason)) {
                    break;
                }
            }
        }
        self.pending.retain(|_, pending| pending.del.is_some() || pending.set.is_some());
        Ok(self.len() < before)
    }

    /// Every pending task, keys in order, a DEL before the SET behind it: for a daemon with an order of its own, which
    /// reports each result to [`Self::settle`].
    pub fn tasks(&self) -> Vec<(String, Task)> {
        let of_key = |(key, pending): (&String, &Pending)| {
            let del = pending.del.as_ref().map(|_| (key.clone(), Task::Del));
            let set = pending.set.as_ref().map(|set| (key.clone(), Task::Set(set.task.clone())));
            del.into_iter().chain(set)
        };
        self.pending.iter().flat_map(of_key).collect()
    }

    /// Takes the result of a task from [`Self::tasks`], with no task added in between. `log` gets a reason to wait
    /// once, not at every retry.
    pub fn settle(&mut self, key: &str, task: &Task, verdict: Verdict, log: impl FnMut(&str)) {
        let Some(pending) = self.pending.get_mut(key) else { return };
        match task {
            Task::Del => settle(&mut pending.del, verdict, log),
            Task::Set(_) => settle(&mut pending.set, verdict, log),
        };
        self.pending.retain(|_, pending| pending.del.is_some() || pending.set.is_some());
    }

    fn len(&self) -> usize {
        let tasks =
            |pending: &Pending| usize::from(pending.del.is_some()) + usize::from(pending.set.is_some());
        self.pending.values().map(tasks).sum()
    }
}

/// Applies a verdict, and returns whether the task has thrown.
fn settle<T>(slot: &mut Option<Waiting<T>>, verdict: Verdict, mut log: impl FnMut(&str)) -> bool {
    let throws = matches!(verdict, Verdict::Throw(_));
    match (verdict, slot.as_mut()) {
        (Verdict::Retry(reason) | Verdict::Throw(reason), Some(waiting)) => {
            if waiting.reason.as_deref() != Some(reason.as_str()) {
                log(&reason);
                waiting.reason = Some(reason);
            }
        }
        (_, _) => *slot = None,
    }
    throws
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(fields: &[(&str, &str)]) -> Task {
        Task::Set(fields.iter().map(|(f, v)| ((*f).to_owned(), (*v).to_owned())).collect())
    }

    /// Offers everything and returns what was offered.
    fn offered(queue: &mut Queue, verdict: &Verdict) -> Vec<(String, Task)> {
        let mut seen = Vec::new();
        let result: Result<bool, ()> = queue.drain(
            |_, _| (),
            |key, task| {
                seen.push((key.to_owned(), task.clone()));
                Ok(verdict.clone())
            },
        );
        assert!(result.is_ok());
        seen
    }

    fn retry() -> Verdict {
        Verdict::Retry("not yet".to_owned())
    }

    #[test]
    fn a_del_replaces_everything_pending() {
        let mut queue = Queue::default();
        queue.add("k", Task::Del);
        queue.add("k", set(&[("a", "1")]));
        queue.add("k", Task::Del);
        assert_eq!(offered(&mut queue, &Verdict::Done), [("k".to_owned(), Task::Del)]);
    }

    #[test]
    fn a_set_waits_behind_a_del_and_is_offered_although_the_del_is_retried() {
        let mut queue = Queue::default();
        queue.add("k", Task::Del);
        queue.add("k", set(&[("a", "1")]));
        let both = [("k".to_owned(), Task::Del), ("k".to_owned(), set(&[("a", "1")]))];
        assert_eq!(offered(&mut queue, &retry()), both);
        assert_eq!(offered(&mut queue, &Verdict::Done), both);
        assert_eq!(offered(&mut queue, &Verdict::Done), []);
    }

    #[test]
    fn sets_merge_their_fields() {
        let mut queue = Queue::default();
        queue.add("k", set(&[("a", "1"), ("b", "1")]));
        queue.add("k", set(&[("b", "2")]));
        assert_eq!(offered(&mut queue, &Verdict::Done), [("k".to_owned(), set(&[("a", "1"), ("b", "2")]))]);
    }

    #[test]
    fn a_dropped_set_leaves_its_del_pending() {
        let mut queue = Queue::default();
        queue.add("k", Task::Del);
        queue.add("k", set(&[]));
        let result: Result<bool, ()> =
            queue.drain(|_, _| (), |_, task| Ok(if *task == Task::Del { retry() } else { Verdict::Done }));
        assert!(result.is_ok());
        assert_eq!(offered(&mut queue, &Verdict::Done), [("k".to_owned(), Task::Del)]);
    }

    #[test]
    fn a_task_that_throws_holds_back_everything_behind_it_for_ever() {
        let mut queue = Queue::default();
        for key in ["a", "b", "c"] {
            queue.add(key, Task::Del);
            queue.add(key, set(&[]));
        }
        let throws = |key: &str| if key == "b" { Verdict::Throw("bad".to_owned()) } else { Verdict::Done };
        for expected in [["a", "a", "b"].as_slice(), ["b"].as_slice()] {
            let mut seen = Vec::new();
            let result: Result<bool, ()> = queue.drain(
                |_, _| (),
                |key, _| {
                    seen.push(key.to_owned());
                    Ok(throws(key))
                },
            );
            assert!(result.is_ok());
            assert_eq!(seen, expected);
        }
    }

    #[test]
    fn keys_come_in_order_so_that_a_port_comes_before_its_addresses() {
        let mut queue = Queue::default();
        queue.add("Ethernet0|2001:db8::1/64", set(&[]));
        queue.add("Ethernet0", set(&[]));
        let keys: Vec<String> = offered(&mut queue, &Verdict::Done).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["Ethernet0", "Ethernet0|2001:db8::1/64"]);
    }

    #[test]
    fn a_reason_is_logged_once_until_it_changes() {
        let mut queue = Queue::default();
        queue.add("k", Task::Del);
        let mut lines = Vec::new();
        for reason in ["a", "a", "b"] {
            let result: Result<bool, ()> = queue.drain(
                |key, reason| lines.push(format!("{key}: {reason}")),
                |_, _| Ok(Verdict::Retry(reason.to_owned())),
            );
            assert!(result.is_ok());
        }
        assert_eq!(lines, ["k: a", "k: b"]);
    }
}
