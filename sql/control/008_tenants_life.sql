-- How a tenant comes to be: asked for, approved, made step by step.
create table tenant_registrations (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  email text,
  person text,
  address inet,
  plan text not null references platform_plans,
  decision text check (decision in ('approved', 'rejected')),
  decided_by uuid,
  decided_at timestamptz(3),
  reason text,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  unique (tenant_id)
);
comment on column tenant_registrations.email is 'Who becomes the administrator; taken away with name and address once he is invited or the request is refused.';
create index tenant_registrations_email on tenant_registrations (email) where email is not null;
create index tenant_registrations_address on tenant_registrations (address, created_at) where address is not null;
call plane.protect('tenant_registrations', true);
call plane.audited('tenant_registrations', '{email,person,address}');

create table tenant_provisioning_steps (
  tenant_id uuid not null references tenants,
  step text not null,
  position int not null,
  state text not null check (state in ('done', 'failed')),
  attempts int not null default 1,
  error text,
  updated_at timestamptz(3) not null default now(),
  primary key (tenant_id, step)
);
comment on table tenant_provisioning_steps is 'Written in the transaction that does the step, so that a step is done once however often it is begun.';
call plane.protect('tenant_provisioning_steps', true);

/* Where a tenant lives is remembered by every process, as its rights are. */
create trigger epoch_insert after insert on tenant_connection_profiles referencing new table as changed for each statement execute function plane.raise_access_epoch();
create trigger epoch_update after update on tenant_connection_profiles referencing new table as changed for each statement execute function plane.raise_access_epoch();

/* How far the migrations of each database and schema are. The last run's word; the record itself is in the target. */
create table platform_migrations (
  target text primary key,
  plane text not null check (plane in ('control', 'data', 'telemetry')),
  tenant_id uuid references tenants,
  state text not null check (state in ('running', 'done', 'failed')),
  applied text[] not null default '{}',
  error text,
  started_at timestamptz(3) not null default now(),
  finished_at timestamptz(3)
);
insert into platform_menu_items (code, parent, labels, path, icon, sort, permission) values
  ('company.domains', 'company', '{"en":"Host names","es":"Dominios","pt":"Domínios","tr":"Alan adları","az":"Domenlər"}', '/tenant/domains', 'globe', 12, 'tenant.domain.read'),
  ('platform.migrations', 'platform', '{"en":"Migrations","es":"Migraciones","pt":"Migrações","tr":"Geçişler","az":"Miqrasiyalar"}', '/superadmin/migrations', 'git-commit', 4, 'platform.migration.read');
create index platform_migrations_state on platform_migrations (state, target);
call plane.protect('platform_migrations', true, 'select');

/* Messages that no try could handle, copied from their topics so that they can be listed, read and sent again. */
create table platform_dead_letters (
  id uuid primary key,
  topic text not null,
  partition int not null,
  position bigint not null,
  key text,
  value text not null,
  consumer text,
  error text,
  attempts int,
  tenant_id uuid,
  first_at timestamptz(3),
  last_at timestamptz(3),
  replayed_at timestamptz(3),
  replayed_by uuid,
  created_at timestamptz(3) not null default now(),
  unique (topic, partition, position)
);
comment on column platform_dead_letters.topic is 'Where the message came from, and where replaying sends it.';
create index platform_dead_letters_recent on platform_dead_letters (created_at desc, id desc);
call plane.protect('platform_dead_letters', true, 'select, insert, update');
insert into platform_menu_items (code, parent, labels, path, icon, sort, permission) values
  ('platform.databases', 'platform', '{"en":"Databases","es":"Bases de datos","pt":"Bancos de dados","tr":"Veritabanları","az":"Verilənlər bazaları"}', '/superadmin/databases', 'database', 5, 'platform.database.read'),
  ('platform.outbox', 'platform', '{"en":"Outbox","es":"Bandeja de salida","pt":"Caixa de saída","tr":"Giden kutusu","az":"Göndərilənlər"}', '/superadmin/outbox', 'send', 6, 'platform.outbox.read'),
  ('platform.dead_letters', 'platform', '{"en":"Dead letters","es":"Mensajes fallidos","pt":"Mensagens mortas","tr":"Ölü mesajlar","az":"Çatmayan məktublar"}', '/superadmin/dead-letters', 'alert-octagon', 7, 'platform.dead_letter.read'),
  ('platform.jobs', 'platform', '{"en":"Jobs","es":"Tareas","pt":"Tarefas","tr":"İşler","az":"Tapşırıqlar"}', '/superadmin/jobs', 'clock', 8, 'platform.job.read');

/* A session that the platform's staff opened in somebody's place: it says so, and why. */
alter table res_sessions add column impersonated_by uuid, add column impersonation_reason text;
alter table res_sessions add constraint res_sessions_impersonation check ((impersonated_by is null) = (impersonation_reason is null));

/* Too small for autovacuum to ever look at; unanalysed, each of these is taken for five hundred rows, and what joins them for millions. */
analyze platform_products, platform_product_modules, platform_plans, platform_plan_modules, platform_plan_limits, platform_menu_items;
