-- What staff decides about tenants, and what it sells to some of them alone.
alter table platform_plans add column listed boolean not null default true;
comment on column platform_plans.listed is 'An unlisted plan is given by staff alone: it is neither requested nor named as what would unlock a module.';

alter table tenant_registrations add column requested_plan text;
update tenant_registrations set requested_plan = plan;
comment on column tenant_registrations.requested_plan is 'What the applicant asked for; plan is what the tenant gets.';
comment on column tenant_registrations.email is 'Of the applicant, who becomes the administrator. Erased with name and address 90 days after the decision.';
create index tenant_registrations_decided on tenant_registrations (decided_at) where email is not null and decided_at is not null;
create index tenant_registrations_plan on tenant_registrations (tenant_id, plan);

/* A decision of staff about a module is kept with whether the tenant ever had it: what it never had is not "still readable". */
alter table tenant_platform_product_modules add column had boolean not null default true;
comment on column tenant_platform_product_modules.had is 'Whether the tenant had the module at some time, so that there may be data to read.';

create or replace function plane.remember_lost_modules() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
begin
  if tg_table_name = 'platform_plan_modules' then
    insert into tenant_platform_product_modules as t (id, tenant_id, module, availability, source)
    select gen_random_uuid(), p.tenant_id, m.code, 'blocked', 'plan'
    from gone g join platform_product_modules m on m.code = g.module
    join tenant_platform_products p on p.plan = g.plan and p.product = m.product and p.availability = 'enabled'
    on conflict (tenant_id, module) do update set had = true where not t.had;
  else
    insert into tenant_platform_product_modules as t (id, tenant_id, module, availability, source)
    select gen_random_uuid(), g.tenant_id, m.code, 'blocked', 'plan'
    from gone g join platform_product_modules m on m.product = g.product
    join platform_plan_modules pm on pm.plan = g.plan and pm.module = m.code
    where g.availability = 'enabled'
    on conflict (tenant_id, module) do update set had = true where not t.had;
  end if;
  return null;
end
$$;
