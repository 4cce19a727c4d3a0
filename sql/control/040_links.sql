-- Links in mails end with what they were asked for, also those whose mail is not written yet.
alter table res_users add column links_from jsonb not null default '{}';
comment on column res_users.links_from is 'Kind of link → from when requests for it count: a mail that was asked for earlier is not written.';

/* Permissions of a role are changes of the role. */
call plane.audited('res_role_permissions', '{}', 'tenant_id', 'role_id');
