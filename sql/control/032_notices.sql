-- What staff tells tenants: announcements, and windows in which they read only. For all tenants, those of a plan, or one.
alter table platform_maintenance_windows
  add column target_tenant_id uuid references tenants,
  add column target_plan text references platform_plans,
  add column version int not null default 1,
  add column updated_at timestamptz(3) not null default now(),
  add constraint platform_maintenance_windows_target check (target_tenant_id is null or target_plan is null);

create table platform_announcements (
  id uuid primary key,
  title text not null,
  body text not null,
  level text not null check (level in ('info', 'warning')),
  starts_at timestamptz(3) not null,
  ends_at timestamptz(3) check (ends_at > starts_at),
  target_tenant_id uuid references tenants,
  target_plan text references platform_plans,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  constraint platform_announcements_target check (target_tenant_id is null or target_plan is null)
);
grant select, insert, update, delete on platform_announcements to tenantry_app;

/* Every process reads them with its tenants; only a connection bound to the platform's own tenant changes them. A change is
   told to every process, and the writer waits until all have heard, as for rights. */
do $$
declare
  target text;
begin
  foreach target in array array['platform_maintenance_windows', 'platform_announcements'] loop
    execute format('alter table %I enable row level security', target);
    execute format('alter table %I force row level security', target);
    execute format('create policy everybody on %I for select to tenantry_app, tenantry_reader using (true)', target);
    execute format($policy$create policy staff on %I to tenantry_app
      using (exists (select from tenants t where t.id = plane.tenant_id() and t.kind = 'platform'))$policy$, target);
    execute format('create policy owner on %I to tenantry_owner using (true) with check (true)', target);
    execute format('grant select on %I to tenantry_reader', target);
    execute format('create trigger catalogue_changed after insert or update or delete on %I for each row execute function plane.catalogue_changed(''id'')', target);
    execute format('create index %I on %I (starts_at desc, id desc)', target || '_start', target);
    execute format('create index %I on %I (created_at desc, id desc)', target || '_recent', target);
    execute format('create index %I on %I (ends_at)', target || '_end', target);
    execute format('create index %I on %I (target_tenant_id, starts_at) where target_tenant_id is not null', target || '_tenant', target);
  end loop;
end
$$;

insert into platform_menu_items (code, parent, labels, path, icon, sort, permission) values
  ('platform.announcements', 'platform', '{"en":"Announcements","es":"Avisos","pt":"Avisos","tr":"Duyurular","az":"Elanlar"}', '/superadmin/announcements', 'message-square', 9, 'platform.announcement.read'),
  ('platform.maintenance', 'platform', '{"en":"Maintenance","es":"Mantenimiento","pt":"Manutenção","tr":"Bakım","az":"Texniki xidmət"}', '/superadmin/maintenance-windows', 'tool', 10, 'platform.maintenance_window.read');
