-- The trail is found by actor and by correlation id, and its seals say which row differs.
create index audit_events_actor on plane.audit_events (tenant_id, actor_id, created_at desc);
create index audit_events_correlation on plane.audit_events (tenant_id, correlation_id, created_at desc);
alter table plane.audit_seals add column leaves bytea;
comment on column plane.audit_seals.root is 'HMAC over the seal before, the hour and the Merkle root of its rows: nobody who has the database alone can make one.';
comment on column plane.audit_seals.leaves is 'SHA-256 of each row in the order of time and id, 32 bytes each: by them the row that differs is found.';
alter table plane.audit_seals alter column leaves set storage external;

/* What a row of the trail says, hashed: as a JSON array, whose text is the same for the same values and for no others. */
create function plane.audit_leaf(e plane.audit_events) returns bytea language sql stable parallel safe as $$
  select sha256(convert_to(jsonb_build_array(e.id, e.tenant_id, e.entity, e.entity_id, e.action, e.actor_id, e.actor_name, e.diff,
    e.correlation_id, e.address, extract(epoch from e.created_at))::text, 'UTF8'))
$$;
grant execute on function plane.audit_leaf to tenantry_app, tenantry_reader;
