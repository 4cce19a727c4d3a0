-- A product that was blocked until a moment is the plan's again after it: what the tenant had since then is remembered, too.
create or replace function plane.remember_lost_modules() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
begin
  if tg_table_name = 'platform_plan_modules' then
    insert into tenant_platform_product_modules as t (id, tenant_id, module, availability, source)
    select gen_random_uuid(), p.tenant_id, m.code, 'blocked', 'plan'
    from gone g join platform_product_modules m on m.code = g.module
    join tenant_platform_products p on p.plan = g.plan and p.product = m.product and (p.availability = 'enabled' or p.expires_at <= now())
    on conflict (tenant_id, module) do update set had = true where not t.had;
  else
    insert into tenant_platform_product_modules as t (id, tenant_id, module, availability, source)
    select gen_random_uuid(), g.tenant_id, m.code, 'blocked', 'plan'
    from gone g join platform_product_modules m on m.product = g.product
    join platform_plan_modules pm on pm.plan = g.plan and pm.module = m.code
    where g.availability = 'enabled' or g.expires_at <= now()
    on conflict (tenant_id, module) do update set had = true where not t.had;
  end if;
  return null;
end
$$;
