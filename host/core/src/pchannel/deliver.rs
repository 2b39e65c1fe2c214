//! Messages from the scanner: an ordinal each, a pin for what must not be lost, and a place in a page.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_message::rows::{DeleteBody, InsertBody};
use tidegate_message::schema::Schema;
use tidegate_message::{Header, Message, MessageId, MessageType, Properties, properties};

use super::{Action, DeadLetter, Pchannel, Weight, work};
use crate::account::{ChannelAccount, Pin, Pinned, Standing, Target, Wait};
use crate::calls::{Call, Position, storage_version};
use crate::ledger::End;
use crate::mutants::{Mutant, is_mutated};
use crate::scan::{BadRecord, Scanned};
use crate::switches::{Switch, is_on};
use crate::turn::{ChannelIndex, Control, ControlBody, EVERY_CHANNEL, Ordinal, Page, Row, flag};

/// Why a message is set aside that was before: the reason is stored with it.
const KNOWN: &str = "it was set aside before, and what became of it is known";

/// Where a delivered message stands.
struct Place<'a> {
    channel: ChannelIndex,
    ordinal: Ordinal,
    id: &'a MessageId,
    position: &'a Position,
    collection: i64,
    txn: Option<i64>,
}

impl Pchannel {
    pub(super) fn deliver(&mut self, messages: Vec<Scanned>) {
        for scanned in messages {
            match scanned {
                Scanned::Message(message, group_end) => {
                    self.group.push(*message);
                    if group_end {
                        let group = std::mem::take(&mut self.group);
                        self.deliver_group(group, false);
                    }
                }
                Scanned::Violation { message, last_released } => {
                    let reason = format!("time tick {} is below {last_released}, which was released before", message.tick);
                    self.set_aside(&message, reason);
                }
                Scanned::Quarantined { message, reason } => self.set_aside(&message, reason),
                Scanned::Parked(_) => {
                    // Rows that cannot be read again are not passed over: the scan begins anew.
                    let id = scanned.message().map(|m| m.id.to_string()).unwrap_or_default();
                    return self.lose_instance(&crate::turn::Fault::Start(format!("the scan delivered message {id} without its rows")));
                }
                Scanned::Malformed(bad) => self.set_record_aside(*bad, true),
            }
        }
    }

    /// Stores a record that is no message in the dead-letter file. Rows count as quarantined as far as they can be counted; a control
    /// message leaves its channel, or every channel, in a state that nobody knows, unless an operator gave its effect up.
    ///
    /// What concerns the whole pchannel is passed over if it detaches nobody: every channel met it, or will, in the main scan.
    pub(super) fn set_record_aside(&mut self, bad: BadRecord, detaches_all: bool) {
        let BadRecord { malformed, kind, vchannel, tick, .. } = bad;
        let reason = malformed.error.to_string();
        let record = malformed.record;
        let rows = rows_of(kind, &record.payload);
        let tick = tick.unwrap_or_default();
        let skipped = self.poison.skipped.contains(&record.id, &vchannel, tick);
        self.dead_letter(DeadLetter {
            id: record.id,
            vchannel: vchannel.clone(),
            tick,
            reason: reason.clone(),
            poison: false,
            properties: record.properties,
            payload: record.payload,
        });
        match kind {
            Some(kind @ (MessageType::INSERT | MessageType::DELETE)) => self.count_malformed(kind, &vchannel, rows),
            _ if skipped => {}
            kind => self.malformed_control(kind, &vchannel, &reason, detaches_all),
        }
    }

    /// Rows of a record that is no message count as quarantined, as far as they can be counted.
    fn count_malformed(&mut self, kind: MessageType, vchannel: &str, rows: u64) {
        if !vchannel.is_empty() {
            self.count_quarantined(vchannel, kind == MessageType::INSERT, rows);
        }
    }

    fn malformed_control(&mut self, kind: Option<MessageType>, vchannel: &str, reason: &str, detaches_all: bool) {
        match kind {
            Some(MessageType::TIME_TICK) => {}
            Some(MessageType::FLUSH_ALL | MessageType::ALTER_WAL) if !detaches_all => {}
            Some(MessageType::FLUSH_ALL | MessageType::ALTER_WAL) => {
                for index in self.every_live_channel() {
                    self.detach_and_tell(index, format!("a malformed control message of the pchannel: {reason}"));
                }
            }
            _ => {
                if let Some(&index) = self.names.get(vchannel) {
                    self.detach_unreadable(index, format!("a malformed control message: {reason}"));
                }
            }
        }
    }

    fn count_quarantined(&mut self, vchannel: &str, inserts: bool, rows: u64) {
        let index = self.intern(vchannel);
        let ledger = &mut self.account(index, vchannel).ledger;
        let account = if inserts { &mut ledger.inserts } else { &mut ledger.deletes };
        account.deliver(rows);
        account.end(rows, End::Quarantined);
    }

    fn dead_letter(&mut self, letter: DeadLetter) {
        self.counters.dead_letters += 1;
        let text =
            format!("message {} of channel {:?} at tick {} is set aside: {}", letter.id, letter.vchannel, letter.tick, letter.reason);
        self.out.push(Action::DeadLetter(Box::new(letter)));
        self.out.push(Action::Notice(Weight::Error, text));
    }

    /// Stores a message in the dead-letter file and counts its rows as quarantined.
    pub(super) fn set_aside(&mut self, message: &Message, reason: String) {
        let index = self.intern(&message.vchannel);
        let rows = claimed_rows(message);
        if let Some((inserts, rows)) = rows {
            self.count_quarantined(&message.vchannel, inserts, rows);
        }
        let skipped = self.poison.skipped.contains(&message.id, &message.vchannel, message.tick);
        let detach = rows.is_none() && !skipped && self.channels.contains_key(&index);
        let text = format!("a control message was set aside: {reason}");
        self.dead_letter(DeadLetter {
            id: message.id.clone(),
            vchannel: message.vchannel.clone(),
            tick: message.tick,
            reason,
            poison: false,
            properties: message.properties.clone(),
            payload: message.payload.clone(),
        });
        if detach {
            self.detach_unreadable(index, text);
        }
    }

    /// Messages of one tick, of the main scan or of a channel that is behind. A transaction with one bad body is set aside whole.
    pub(super) fn deliver_group(&mut self, group: Vec<Message>, behind: bool) {
        let mut bad_transactions = BTreeSet::new();
        let mut verdicts: Vec<Option<String>> = Vec::with_capacity(group.len());
        for message in &group {
            let known = self.poison.known.contains(&message.id, &message.vchannel, message.tick);
            let verdict = if known { Some(KNOWN.to_owned()) } else { self.check_body(message).err() };
            if let (Some(_), Some(txn), false) = (&verdict, &message.txn, is_mutated(Mutant::SiblingsKept)) {
                bad_transactions.insert(txn.txn_id);
            }
            verdicts.push(verdict);
        }
        let last = group.len().saturating_sub(1);
        for (at, (message, verdict)) in group.into_iter().zip(verdicts).enumerate() {
            let sibling = message.txn.as_ref().filter(|t| bad_transactions.contains(&t.txn_id));
            let verdict = verdict.or_else(|| sibling.map(|t| sibling_of_a_bad_body(t.txn_id)));
            self.counters.messages += 1;
            self.deliver_one(message, at == last, behind, verdict);
        }
    }

    /// Whether a body can be written: its form, and its schema where it is known.
    fn check_body(&self, message: &Message) -> Result<(), String> {
        let account = self.names.get(&message.vchannel).and_then(|index| self.channels.get(index));
        let schema = account.and_then(|account| account.schema_at(message.tick)).map(|schema| &**schema);
        match &message.header {
            Header::Insert { rows, .. } => check_rows(&message.payload, *rows, schema),
            Header::Delete { rows, .. } => check_keys(&message.payload, *rows, schema),
            _ => Ok(()),
        }
    }

    /// The schemas of a channel became known: rows that waited are checked as those that come are, with their transactions.
    pub(super) fn check_pinned(&mut self, index: ChannelIndex) {
        let Some(account) = self.channels.get(&index) else { return };
        let mut bad = Vec::new();
        for (&ordinal, pin) in &account.pins {
            let schema = account.schema_at(pin.position.tick).map(|schema| &**schema);
            let checked = match &pin.what {
                Pinned::Rows { rows, payload, .. } => check_rows(payload, *rows, schema),
                Pinned::Deletes { rows, payload, .. } => check_keys(payload, *rows, schema),
                Pinned::Control(_) => Ok(()),
            };
            bad.extend(checked.err().map(|reason| (ordinal, reason)));
        }
        self.set_pinned_aside(index, None, bad, false);
    }

    /// Sets messages aside that are pinned already. One with a bad body takes its transaction along, but for what is being written: of the
    /// syncs that run, only `refused` has written nothing. Returns what was set aside.
    pub(super) fn set_pinned_aside(
        &mut self,
        index: ChannelIndex,
        refused: Option<Target>,
        mut bad: Vec<(Ordinal, String)>,
        poison: bool,
    ) -> BTreeSet<Ordinal> {
        let mut aside = BTreeSet::new();
        let Some(account) = self.channels.get(&index) else { return aside };
        let bad_txns: BTreeSet<i64> = bad.iter().filter_map(|(ordinal, _)| account.pins.get(ordinal)?.txn).collect();
        let named: BTreeSet<Ordinal> = bad.iter().map(|&(ordinal, _)| ordinal).collect();
        if !bad_txns.is_empty() {
            let siblings = account.pins.iter().filter(|(o, p)| {
                !named.contains(o)
                    && p.txn.is_some_and(|t| bad_txns.contains(&t))
                    && (p.target() == refused || !account.is_being_written(**o))
            });
            bad.extend(siblings.map(|(&o, p)| (o, sibling_of_a_bad_body(p.txn.unwrap_or_default()))));
        }
        for (ordinal, reason) in bad {
            let Some(account) = self.channels.get_mut(&index) else { return aside };
            let Some(pin) = account.pins.get(&ordinal) else { continue };
            let payload = match &pin.what {
                Pinned::Rows { payload, .. } | Pinned::Deletes { payload, .. } => payload.clone(),
                Pinned::Control(_) => continue,
            };
            let letter = DeadLetter {
                id: pin.id.clone(),
                vchannel: account.name.clone(),
                tick: pin.position.tick,
                reason: format!("message {ordinal} of the scan: {reason}"),
                poison,
                properties: pin.properties.clone(),
                payload,
            };
            account.forget_in_jobs(ordinal);
            account.unpin(ordinal, End::Quarantined);
            aside.insert(ordinal);
            self.dead_letter(letter);
        }
        aside
    }

    fn deliver_one(&mut self, message: Message, group_end: bool, behind: bool, bad: Option<String>) {
        // CK-4: the place to resume from is the last confirmed id, never the message's own.
        let last_confirmed = if is_on(Switch::OwnIds) { message.id.clone() } else { message.last_confirmed.clone() };
        let position = Position { last_confirmed, tick: message.tick + u64::from(is_mutated(Mutant::TickTooHigh)) };
        let on_control_channel = message.is_control_channel();
        let every = message.vchannel.is_empty() || message.pchannel_level || on_control_channel;
        let mut flags = 0;
        flags |= if message.persisted { flag::PERSISTED } else { 0 };
        flags |= if message.pchannel_level { flag::PCHANNEL_LEVEL } else { 0 };
        flags |= if on_control_channel { flag::CONTROL_CHANNEL } else { 0 };
        flags |= if group_end { flag::GROUP_END } else { 0 };
        if !behind {
            self.tick = message.tick;
        }
        if let Some(header) = message.properties.get(properties::BROADCAST) {
            let (vchannel, header) = (message.vchannel.clone(), header.clone());
            self.out.push(Action::Broadcast { vchannel, tick: message.tick, header });
        }
        let index = if every { EVERY_CHANNEL } else { self.intern(&message.vchannel) };
        let ordinal = self.next_ordinal;
        if !every {
            self.introduce(index, &message.vchannel, ordinal);
        }
        let account = self.channels.get(&index);
        let detached = account.is_some_and(|c| matches!(c.standing, Standing::Detached { .. }));
        // The main scan passes over what a channel that is behind will read itself.
        let read_elsewhere = !behind && account.is_some_and(ChannelAccount::is_behind);
        let bad = bad.filter(|_| !read_elsewhere);
        if bad.is_some() || detached || read_elsewhere {
            flags |= flag::SETTLED;
        }
        let kind = u16::try_from(message.kind.0).unwrap_or_default();
        let row = Row { kind, flags, channel: index, tick: message.tick, ..Row::default() };
        if let Some(reason) = bad {
            self.set_aside(&message, reason);
            self.push(row, None);
        } else if read_elsewhere {
            self.push(row, None);
        } else if detached {
            self.count_detached(index, &message);
            self.push(row, None);
        } else {
            self.deliver_header(message, row, &position);
        }
        // To the other channels, what one of them reads again changes no position.
        let passed = if behind { self.group_ends.back().map(|(_, position)| position.clone()) } else { Some(position) };
        if let Some(position) = passed.filter(|_| group_end) {
            self.note_group_end(position);
        }
    }

    /// The last message ends a group: everything that the main scan has before the position was delivered. The last end that the component
    /// has read stays known, however many wait behind it: it is the one that it names.
    pub(super) fn note_group_end(&mut self, position: Position) {
        self.group_ends.push_back((self.next_ordinal - 1, position));
        while self.group_ends.len() > self.limits.group_ends_max && self.group_ends.get(1).is_some_and(|(next, _)| *next <= self.handed) {
            self.group_ends.pop_front();
        }
    }

    /// Rows of a detached channel are not held in memory; they are pending until they are met again.
    fn count_detached(&mut self, index: ChannelIndex, message: &Message) {
        if let Some(account) = self.channels.get_mut(&index) {
            match claimed_rows(message) {
                Some((true, rows)) => account.ledger.inserts.deliver(rows),
                Some((false, rows)) => account.ledger.deletes.deliver(rows),
                None => {}
            }
        }
    }

    pub(super) fn introduce(&mut self, index: ChannelIndex, name: &str, ordinal: Ordinal) {
        let account = self.account(index, name);
        account.first.get_or_insert(ordinal);
        let holds = account.is_live().then(|| (account.hold(), index));
        if self.introduced.insert(index) {
            self.stored.extend(holds);
            self.open_page().controls.push(Control { ordinal, body: ControlBody::Intern(name.to_owned()) });
        }
    }

    /// The page that takes the next message: a full one is followed by a new one, at the end of a group.
    fn open_page(&mut self) -> &mut Page {
        let full = self.ready.back().is_none_or(|p| p.ends_group() && p.len() >= self.limits.page_max);
        if full {
            self.ready.push_back(Page { first: self.next_ordinal, ..Page::default() });
        }
        let last = self.ready.len() - 1;
        &mut self.ready[last]
    }

    pub(super) fn push(&mut self, row: Row, body: Option<ControlBody>) -> Ordinal {
        let ordinal = self.next_ordinal;
        let page = self.open_page();
        page.push(row);
        page.controls.extend(body.map(|body| Control { ordinal, body }));
        self.next_ordinal += 1;
        ordinal
    }

    fn deliver_header(&mut self, message: Message, row: Row, position: &Position) {
        let index = row.channel;
        let id = message.id;
        let bytes = message.payload.len() as u64;
        let payload = message.payload;
        let properties = message.properties;
        let txn = message.txn.map(|t| t.txn_id);
        match message.header {
            Header::Insert { collection, partition, segment, rows, .. } => {
                let count = u32::try_from(rows).unwrap_or(u32::MAX);
                let ordinal = self.push(Row { collection, partition, segment, rows: count, bytes, ..row }, None);
                let place = Place { channel: index, ordinal, id: &id, position, collection, txn };
                self.pin_with(&place, properties, Pinned::Rows { segment, partition, rows, payload });
                if let Some(s) = self.channels.get_mut(&index).and_then(|c| c.segments.get_mut(&segment)) {
                    s.start.get_or_insert_with(|| position.clone());
                }
            }
            Header::Delete { collection, partition, rows } => {
                let count = u32::try_from(rows).unwrap_or(u32::MAX);
                let ordinal = self.push(Row { collection, partition, rows: count, bytes, ..row }, None);
                let place = Place { channel: index, ordinal, id: &id, position, collection, txn };
                self.pin_with(&place, properties, Pinned::Deletes { partition, rows, payload });
            }
            Header::CreateCollection { collection, partitions, schema } => {
                let hazard = schema.as_ref().err().cloned();
                let ordinal = self.push(Row { collection, ..row }, Some(ControlBody::CreateCollection(partitions, hazard)));
                let Some(account) = self.channels.get_mut(&index) else { return };
                if account.standing == Standing::Unknown && account.collection.is_none() {
                    account.collection = Some(collection);
                    account.schemas.extend(schema.ok().map(|s| (position.tick, Arc::from(s))));
                    self.pin(&Place { channel: index, ordinal, id: &id, position, collection, txn }, Pinned::Control(vec![Wait::Standing]));
                }
            }
            Header::DropCollection { collection } => {
                let ordinal = self.push(Row { collection, ..row }, None);
                let Some(account) = self.channels.get_mut(&index) else { return };
                if account.collection.is_none_or(|c| c == collection) {
                    account.drop_message.get_or_insert(ordinal);
                    self.pin(
                        &Place { channel: index, ordinal, id: &id, position, collection, txn },
                        Pinned::Control(vec![Wait::DropChannel]),
                    );
                }
            }
            Header::CreateSegment { collection, segments } => {
                if segments.is_empty() {
                    // A list without segments still moves positions.
                    self.push(Row { collection, ..row }, None);
                }
                let last = segments.len().saturating_sub(1);
                for (nth, s) in segments.into_iter().enumerate() {
                    let flags = if nth == last { row.flags } else { row.flags & !flag::GROUP_END };
                    let row = Row { collection, partition: s.partition, segment: s.segment, flags, ..row };
                    if s.level != 1 && !storage_version::is_known(s.storage_version) {
                        let reason = work::unsupported_version(s.segment, s.storage_version);
                        let ordinal = self.push(row, Some(ControlBody::Hazard(reason)));
                        self.pin(
                            &Place { channel: index, ordinal, id: &id, position, collection, txn },
                            Pinned::Control(vec![Wait::Hazard]),
                        );
                        continue;
                    }
                    let ordinal = self.push(row, Some(ControlBody::CreateSegment(s.level == 1)));
                    if s.level != 1 {
                        let wait = Wait::Alloc { segment: s.segment, partition: s.partition, storage_version: s.storage_version };
                        self.pin(&Place { channel: index, ordinal, id: &id, position, collection, txn }, Pinned::Control(vec![wait]));
                    }
                }
            }
            Header::Flush { collection, partition, segments } => {
                let row = Row { collection, partition, segment: segments.first().copied().unwrap_or_default(), ..row };
                self.deliver_seal(row, &id, position, segments, None);
            }
            Header::ManualFlush { collection, segments, .. } | Header::Truncate { collection, segments } => {
                self.deliver_seal(Row { collection, ..row }, &id, position, segments, None);
            }
            Header::SchemaChange { collection, segments, schema } => {
                let hazard = schema.as_ref().and_then(|s| s.as_ref().err().cloned());
                let ordinal = self.deliver_seal(Row { collection, ..row }, &id, position, segments, hazard);
                // Another collection's schema is nothing to this channel; the component filters the message.
                let own = self.channels.get(&index).is_some_and(|a| a.collection.is_none_or(|c| c == collection));
                match schema.filter(|_| own) {
                    Some(Ok(schema)) => {
                        let place = Place { channel: index, ordinal, id: &id, position, collection, txn };
                        self.record_schema(&place, Arc::from(schema));
                    }
                    Some(Err(_)) => self.add_wait(&Place { channel: index, ordinal, id: &id, position, collection, txn }, Wait::Hazard),
                    None => {}
                }
            }
            Header::DropPartition { collection, partition } => {
                let ordinal = self.push(Row { collection, partition, ..row }, None);
                let Some(account) = self.channels.get_mut(&index) else { return };
                account.dropped_partitions.entry(partition).or_insert(ordinal);
                let open = account.open_segments(Some(partition));
                if !open.is_empty() {
                    self.pin(
                        &Place { channel: index, ordinal, id: &id, position, collection, txn },
                        Pinned::Control(vec![Wait::Complete(open)]),
                    );
                }
            }
            Header::CreatePartition { collection, partition } => {
                self.push(Row { collection, partition, ..row }, None);
            }
            Header::Cipher(reason) => {
                let ordinal = self.push(row, Some(ControlBody::Hazard(reason)));
                self.pin(
                    &Place { channel: index, ordinal, id: &id, position, collection: 0, txn: None },
                    Pinned::Control(vec![Wait::Hazard]),
                );
            }
            _ => {
                let ordinal = self.push(row, None);
                if matches!(message.kind, MessageType::FLUSH_ALL | MessageType::ALTER_WAL) {
                    self.seal_everything(index, message.kind, ordinal, &id, position);
                }
            }
        }
    }

    fn deliver_seal(&mut self, row: Row, id: &MessageId, position: &Position, segments: Vec<i64>, hazard: Option<String>) -> Ordinal {
        let index = row.channel;
        let collection = row.collection;
        let ordinal = self.push(row, Some(ControlBody::Seal(segments.clone(), hazard)));
        let Some(account) = self.channels.get(&index) else { return ordinal };
        let open: BTreeSet<i64> = segments.into_iter().filter(|id| account.segments.get(id).is_none_or(|s| !s.ended)).collect();
        if !open.is_empty() && !is_mutated(Mutant::FlushNotPinned) {
            self.pin(&Place { channel: index, ordinal, id, position, collection, txn: None }, Pinned::Control(vec![Wait::Complete(open)]));
        }
        ordinal
    }

    fn seal_everything(&mut self, index: ChannelIndex, kind: MessageType, ordinal: Ordinal, id: &MessageId, position: &Position) {
        let channels = if index == EVERY_CHANNEL { self.every_live_channel() } else { vec![index] };
        for index in channels {
            let Some(account) = self.channels.get(&index) else { continue };
            // Nothing comes after an AlterWAL.
            let is_last = kind == MessageType::ALTER_WAL;
            let open = if is_last { account.open_segments(None) } else { account.segments_before(position.tick) };
            if !open.is_empty() {
                self.pin(
                    &Place { channel: index, ordinal, id, position, collection: 0, txn: None },
                    Pinned::Control(vec![Wait::Complete(open)]),
                );
            }
        }
    }

    fn record_schema(&mut self, place: &Place, schema: Arc<Schema>) {
        let Some(account) = self.channels.get_mut(&place.channel) else { return };
        // A later one may be recorded already: its record can overtake this one's.
        let Err(at) = account.schemas.binary_search_by_key(&place.position.tick, |(from, _)| *from) else { return };
        if at < account.schemas.len() && is_mutated(Mutant::SchemaOvertaken) {
            return;
        }
        if account.seek.as_ref().is_some_and(|seek| place.position.tick < seek.tick) {
            return;
        }
        account.schemas.insert(at, (place.position.tick, schema.clone()));
        let call = Call::SaveSchema { vchannel: account.name.clone(), tick: place.position.tick, schema: Box::new((*schema).clone()) };
        if !is_mutated(Mutant::SchemaNotAwaited) {
            self.add_wait(place, Wait::Schema);
        }
        self.begin(work::Purpose::Schema { channel: place.channel, at: place.ordinal }, super::Work::Call(call));
    }

    fn add_wait(&mut self, place: &Place, wait: Wait) {
        let Some(account) = self.channels.get_mut(&place.channel) else { return };
        match account.pins.get_mut(&place.ordinal) {
            Some(Pin { what: Pinned::Control(waits), .. }) => waits.push(wait),
            _ => self.pin(place, Pinned::Control(vec![wait])),
        }
    }

    fn pin(&mut self, place: &Place, what: Pinned) {
        self.pin_with(place, Properties::new(), what);
    }

    fn pin_with(&mut self, place: &Place, properties: Properties, what: Pinned) {
        let Place { channel, ordinal, id, position, collection, txn } = *place;
        if let Some(account) = self.channels.get_mut(&channel) {
            account.pin(ordinal, Pin { id: id.clone(), position: position.clone(), collection, txn, properties, what });
        }
    }
}

/// Rows of a message that was not checked, and whether they are inserted: never more than its payload has bytes, whatever its header says.
fn claimed_rows(message: &Message) -> Option<(bool, u64)> {
    let most = message.payload.len() as u64;
    match &message.header {
        Header::Insert { rows, .. } => Some((true, (*rows).min(most))),
        Header::Delete { rows, .. } => Some((false, (*rows).min(most))),
        _ => None,
    }
}

/// Rows of a body whose message cannot be read, 0 if the body cannot either.
fn rows_of(kind: Option<MessageType>, payload: &Bytes) -> u64 {
    match kind {
        Some(MessageType::INSERT) => InsertBody::parse(payload).map_or(0, |body| body.rows() as u64),
        Some(MessageType::DELETE) => DeleteBody::parse(payload).map_or(0, |body| body.rows() as u64),
        _ => 0,
    }
}

fn check_rows(payload: &Bytes, rows: u64, schema: Option<&Schema>) -> Result<(), String> {
    let body = InsertBody::parse(payload).map_err(|e| e.to_string())?;
    if body.rows() as u64 != rows {
        return Err(format!("the header says {rows} rows, the body has {}", body.rows()));
    }
    schema.map_or(Ok(()), |schema| body.check(schema)).map_err(|e| e.to_string())
}

fn check_keys(payload: &Bytes, rows: u64, schema: Option<&Schema>) -> Result<(), String> {
    let body = DeleteBody::parse(payload).map_err(|e| e.to_string())?;
    if body.rows() as u64 != rows {
        return Err(format!("the header says {rows} keys, the body has {}", body.rows()));
    }
    schema.map_or(Ok(()), |schema| body.check(schema)).map_err(|e| e.to_string())
}

fn sibling_of_a_bad_body(txn_id: i64) -> String {
    format!("another message of transaction {txn_id} is set aside")
}
