-- Failed events are counted by monitors and listed by staff, among millions that were published.
create index event_outbox_failed on plane.event_outbox (position) where status = 'failed';
