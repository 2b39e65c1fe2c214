//! Messages from the scanner: an ordinal each, a pin for what must not be lost, and a place in a page.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidegate_message::rows::{DeleteBody, InsertBody};
use tidegate_message::schema::Schema;
use tidegate_message::{Header, Message, MessageId, MessageType, properties};

use super::{Action, DeadLetter, Pchannel, Weight, work};
use crate::account::{Pin, Pinned, Standing, Wait};
use crate::calls::{Call, Position, storage_version};
use crate::ledger::End;
use crate::scan::Scanned;
use crate::switches::{Switch, is_on};
use crate::turn::{ChannelIndex, Control, ControlBody, EVERY_CHANNEL, Ordinal, Page, Row, flag};

/// Where a delivered message stands.
struct Place<'a> {
    channel: ChannelIndex,
    ordinal: Ordinal,
    id: &'a MessageId,
    position: &'a Position,
    collection: i64,
}

impl Pchannel {
    pub(super) fn deliver(&mut self, messages: Vec<Scanned>) {
        for scanned in messages {
            match scanned {
                Scanned::Message(message, group_end) => {
                    self.group.push(*message);
                    if group_end {
                        let group = std::mem::take(&mut self.group);
                        self.deliver_group(group);
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
                Scanned::Malformed(bad) => {
                    let crate::scan::BadRecord { malformed, kind, vchannel, tick, .. } = *bad;
                    let reason = malformed.error.to_string();
                    let record = malformed.record;
                    self.dead_letter(DeadLetter {
                        id: record.id,
                        vchannel: vchannel.clone(),
                        tick: tick.unwrap_or_default(),
                        reason: reason.clone(),
                        properties: record.properties,
                        payload: record.payload,
                    });
                    // A malformed control message leaves its channel in a state that nobody knows.
                    let is_data = matches!(kind, Some(MessageType::INSERT | MessageType::DELETE | MessageType::TIME_TICK));
                    if let Some(&index) = self.names.get(&vchannel).filter(|_| !is_data) {
                        self.detach_and_tell(index, format!("a malformed control message: {reason}"));
                    }
                }
            }
        }
    }

    fn dead_letter(&mut self, letter: DeadLetter) {
        self.counters.dead_letters += 1;
        let text =
            format!("message {} of channel {:?} at tick {} is set aside: {}", letter.id, letter.vchannel, letter.tick, letter.reason);
        self.out.push(Action::DeadLetter(Box::new(letter)));
        self.out.push(Action::Notice(Weight::Error, text));
    }

    /// Stores a message in the dead-letter file and counts its rows as quarantined.
    fn set_aside(&mut self, message: &Message, reason: String) {
        let rows = match &message.header {
            Header::Insert { rows, .. } => Some((true, *rows)),
            Header::Delete { rows, .. } => Some((false, *rows)),
            _ => None,
        };
        let index = self.intern(&message.vchannel);
        if let Some((inserts, rows)) = rows {
            let ledger = &mut self.account(index, &message.vchannel).ledger;
            let account = if inserts { &mut ledger.inserts } else { &mut ledger.deletes };
            account.deliver(rows);
            account.end(rows, End::Quarantined);
        }
        let detach = rows.is_none() && self.channels.contains_key(&index);
        let text = format!("a control message was set aside: {reason}");
        self.dead_letter(DeadLetter {
            id: message.id.clone(),
            vchannel: message.vchannel.clone(),
            tick: message.tick,
            reason,
            properties: message.properties.clone(),
            payload: message.payload.clone(),
        });
        if detach {
            self.detach_and_tell(index, text);
        }
    }

    /// Messages of one tick. A transaction with one bad body is set aside whole.
    fn deliver_group(&mut self, group: Vec<Message>) {
        let mut bad_transactions = BTreeSet::new();
        let mut verdicts: Vec<Option<String>> = Vec::with_capacity(group.len());
        for message in &group {
            let verdict = self.check_body(message).err();
            if let (Some(_), Some(txn)) = (&verdict, &message.txn) {
                bad_transactions.insert(txn.txn_id);
            }
            verdicts.push(verdict);
        }
        let last = group.len().saturating_sub(1);
        for (at, (message, verdict)) in group.into_iter().zip(verdicts).enumerate() {
            let sibling = message.txn.as_ref().filter(|t| bad_transactions.contains(&t.txn_id));
            let verdict = verdict.or_else(|| sibling.map(|t| format!("another message of transaction {} is malformed", t.txn_id)));
            self.counters.messages += 1;
            self.deliver_one(message, at == last, verdict);
        }
    }

    /// Whether a body can be written: its form, and its schema where it is known.
    fn check_body(&self, message: &Message) -> Result<(), String> {
        let schema = || {
            let account = self.names.get(&message.vchannel).and_then(|index| self.channels.get(index))?;
            account.schema_at(message.tick)
        };
        match &message.header {
            Header::Insert { rows, .. } => {
                let body = InsertBody::parse(&message.payload).map_err(|e| e.to_string())?;
                if body.rows() as u64 != *rows {
                    return Err(format!("the header says {rows} rows, the body has {}", body.rows()));
                }
                schema().map_or(Ok(()), |schema| body.check(schema)).map_err(|e| e.to_string())
            }
            Header::Delete { rows, .. } => {
                let body = DeleteBody::parse(&message.payload).map_err(|e| e.to_string())?;
                if body.rows() as u64 != *rows {
                    return Err(format!("the header says {rows} keys, the body has {}", body.rows()));
                }
                schema().map_or(Ok(()), |schema| body.check(schema)).map_err(|e| e.to_string())
            }
            _ => Ok(()),
        }
    }

    fn deliver_one(&mut self, message: Message, group_end: bool, bad: Option<String>) {
        // CK-4: the place to resume from is the last confirmed id, never the message's own.
        let last_confirmed = if is_on(Switch::OwnIds) { message.id.clone() } else { message.last_confirmed.clone() };
        let position = Position { last_confirmed, tick: message.tick };
        let on_control_channel = message.is_control_channel();
        let every = message.vchannel.is_empty() || message.pchannel_level || on_control_channel;
        let mut flags = 0;
        flags |= if message.persisted { flag::PERSISTED } else { 0 };
        flags |= if message.pchannel_level { flag::PCHANNEL_LEVEL } else { 0 };
        flags |= if on_control_channel { flag::CONTROL_CHANNEL } else { 0 };
        flags |= if group_end { flag::GROUP_END } else { 0 };
        self.tick = message.tick;
        if let Some(header) = message.properties.get(properties::BROADCAST) {
            let (vchannel, header) = (message.vchannel.clone(), header.clone());
            self.out.push(Action::Broadcast { vchannel, tick: message.tick, header });
        }
        let index = if every { EVERY_CHANNEL } else { self.intern(&message.vchannel) };
        let ordinal = self.next_ordinal;
        if !every {
            self.introduce(index, &message.vchannel, ordinal);
        }
        let detached = self.channels.get(&index).is_some_and(|c| matches!(c.standing, Standing::Detached { .. }));
        if bad.is_some() || detached {
            flags |= flag::SETTLED;
        }
        let kind = u16::try_from(message.kind.0).unwrap_or_default();
        let row = Row { kind, flags, channel: index, tick: message.tick, ..Row::default() };
        if let Some(reason) = bad {
            self.set_aside(&message, reason);
            self.push(row, None);
        } else if detached {
            self.count_detached(index, &message);
            self.push(row, None);
        } else {
            self.deliver_header(message, row, &position);
        }
        if group_end {
            self.group_ends.push_back((self.next_ordinal - 1, position));
            if self.group_ends.len() > self.limits.group_ends_max {
                self.group_ends.pop_front();
            }
        }
    }

    /// Rows of a detached channel are not held in memory; they are pending until they are met again.
    fn count_detached(&mut self, index: ChannelIndex, message: &Message) {
        if let Some(account) = self.channels.get_mut(&index) {
            match &message.header {
                Header::Insert { rows, .. } => account.ledger.inserts.deliver(*rows),
                Header::Delete { rows, .. } => account.ledger.deletes.deliver(*rows),
                _ => {}
            }
        }
    }

    fn introduce(&mut self, index: ChannelIndex, name: &str, ordinal: Ordinal) {
        let account = self.account(index, name);
        account.first.get_or_insert(ordinal);
        if self.introduced.insert(index) {
            self.stored.insert((0, index));
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

    fn push(&mut self, row: Row, body: Option<ControlBody>) -> Ordinal {
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
        match message.header {
            Header::Insert { collection, partition, segment, rows, .. } => {
                let count = u32::try_from(rows).unwrap_or(u32::MAX);
                let ordinal = self.push(Row { collection, partition, segment, rows: count, bytes, ..row }, None);
                self.pin(
                    &Place { channel: index, ordinal, id: &id, position, collection },
                    Pinned::Rows { segment, partition, rows, payload },
                );
                if let Some(s) = self.channels.get_mut(&index).and_then(|c| c.segments.get_mut(&segment)) {
                    s.start.get_or_insert_with(|| position.clone());
                }
            }
            Header::Delete { collection, partition, rows } => {
                let count = u32::try_from(rows).unwrap_or(u32::MAX);
                let ordinal = self.push(Row { collection, partition, rows: count, bytes, ..row }, None);
                self.pin(&Place { channel: index, ordinal, id: &id, position, collection }, Pinned::Deletes { partition, rows, payload });
            }
            Header::CreateCollection { collection, partitions, schema } => {
                let hazard = schema.as_ref().err().cloned();
                let ordinal = self.push(Row { collection, ..row }, Some(ControlBody::CreateCollection(partitions, hazard)));
                let Some(account) = self.channels.get_mut(&index) else { return };
                if account.standing == Standing::Unknown && account.collection.is_none() {
                    account.collection = Some(collection);
                    account.schemas.extend(schema.ok().map(|s| (position.tick, Arc::from(s))));
                    self.pin(&Place { channel: index, ordinal, id: &id, position, collection }, Pinned::Control(vec![Wait::Standing]));
                }
            }
            Header::DropCollection { collection } => {
                let ordinal = self.push(Row { collection, ..row }, None);
                let Some(account) = self.channels.get_mut(&index) else { return };
                if account.collection.is_none_or(|c| c == collection) {
                    account.drop_message.get_or_insert(ordinal);
                    self.pin(&Place { channel: index, ordinal, id: &id, position, collection }, Pinned::Control(vec![Wait::DropChannel]));
                }
            }
            Header::CreateSegment { collection, segments } => {
                let last = segments.len().saturating_sub(1);
                for (nth, s) in segments.into_iter().enumerate() {
                    let flags = if nth == last { row.flags } else { row.flags & !flag::GROUP_END };
                    let row = Row { collection, partition: s.partition, segment: s.segment, flags, ..row };
                    if s.level != 1 && !storage_version::is_known(s.storage_version) {
                        let reason = work::unsupported_version(s.segment, s.storage_version);
                        let ordinal = self.push(row, Some(ControlBody::Hazard(reason)));
                        self.pin(&Place { channel: index, ordinal, id: &id, position, collection }, Pinned::Control(vec![Wait::Hazard]));
                        continue;
                    }
                    let ordinal = self.push(row, Some(ControlBody::CreateSegment(s.level == 1)));
                    if s.level != 1 {
                        let wait = Wait::Alloc { segment: s.segment, partition: s.partition, storage_version: s.storage_version };
                        self.pin(&Place { channel: index, ordinal, id: &id, position, collection }, Pinned::Control(vec![wait]));
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
                match schema {
                    Some(Ok(schema)) => {
                        let place = Place { channel: index, ordinal, id: &id, position, collection };
                        self.record_schema(&place, Arc::from(schema));
                    }
                    Some(Err(_)) => self.add_wait(&Place { channel: index, ordinal, id: &id, position, collection }, Wait::Hazard),
                    None => {}
                }
            }
            Header::DropPartition { collection, partition } => {
                let ordinal = self.push(Row { collection, partition, ..row }, None);
                let Some(account) = self.channels.get_mut(&index) else { return };
                account.dropped_partitions.entry(partition).or_insert(ordinal);
                let open: BTreeSet<i64> =
                    account.segments.iter().filter(|(_, s)| s.partition == partition && !s.ended).map(|(&id, _)| id).collect();
                if !open.is_empty() {
                    self.pin(
                        &Place { channel: index, ordinal, id: &id, position, collection },
                        Pinned::Control(vec![Wait::Complete(open)]),
                    );
                }
            }
            Header::CreatePartition { collection, partition } => {
                self.push(Row { collection, partition, ..row }, None);
            }
            Header::Cipher(reason) => {
                let ordinal = self.push(row, Some(ControlBody::Hazard(reason)));
                self.pin(&Place { channel: index, ordinal, id: &id, position, collection: 0 }, Pinned::Control(vec![Wait::Hazard]));
            }
            _ => {
                let ordinal = self.push(row, None);
                if matches!(message.kind, MessageType::FLUSH_ALL | MessageType::ALTER_WAL) {
                    self.seal_everything(index, ordinal, &id, position);
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
        if !open.is_empty() {
            self.pin(&Place { channel: index, ordinal, id, position, collection }, Pinned::Control(vec![Wait::Complete(open)]));
        }
        ordinal
    }

    fn seal_everything(&mut self, index: ChannelIndex, ordinal: Ordinal, id: &MessageId, position: &Position) {
        let channels = if index == EVERY_CHANNEL { self.every_live_channel() } else { vec![index] };
        for index in channels {
            let Some(account) = self.channels.get(&index) else { continue };
            let open: BTreeSet<i64> = account.segments.iter().filter(|(_, s)| !s.ended).map(|(&id, _)| id).collect();
            if !open.is_empty() {
                self.pin(&Place { channel: index, ordinal, id, position, collection: 0 }, Pinned::Control(vec![Wait::Complete(open)]));
            }
        }
    }

    fn record_schema(&mut self, place: &Place, schema: Arc<Schema>) {
        let Some(account) = self.channels.get_mut(&place.channel) else { return };
        if account.schemas.last().is_some_and(|(from, _)| *from >= place.position.tick) {
            return;
        }
        account.schemas.push((place.position.tick, schema.clone()));
        let call = Call::SaveSchema { vchannel: account.name.clone(), tick: place.position.tick, schema: Box::new((*schema).clone()) };
        self.add_wait(place, Wait::Schema);
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
        if let Some(account) = self.channels.get_mut(&place.channel) {
            account.pin(place.ordinal, Pin { id: place.id.clone(), position: place.position.clone(), collection: place.collection, what });
        }
    }
}
