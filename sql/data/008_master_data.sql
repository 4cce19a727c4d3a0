-- Who belongs to whom and is whom; what a product is made of, and what others call it.
alter table erp_party add constraint erp_party_merged check (merged_into is null or deleted_at is not null);
comment on column erp_party.merged_into is 'It was the same as another: what referred to it refers to that one now.';
create index erp_party_parent_id on erp_party (tenant_id, organization_id, parent_id, id) where deleted_at is null;
create index erp_party_tax_id on erp_party (tenant_id, organization_id, upper(regexp_replace(tax_id, '[^A-Za-z0-9]', '', 'g')), id) where deleted_at is null;
create index erp_party_contact_phone_index on erp_party_contact (tenant_id, organization_id, phone_index, id) where deleted_at is null;
-- The trail keeps no cipher texts: they would outlive a change of what they hide.
call plane.audited('erp_party_address', '{lines}');
call plane.audited('erp_party_contact', '{email,email_index,phone,phone_index}');

alter table erp_product add constraint erp_product_barcode_gtin check (plane.is_gtin(barcode)) not valid;
alter table erp_product_variant add constraint erp_product_variant_barcode_gtin check (plane.is_gtin(barcode)) not valid;
drop index erp_product_barcode;
create unique index erp_product__barcode_key on erp_product (tenant_id, organization_id, barcode) where deleted_at is null;
create unique index erp_product_variant__barcode_key on erp_product_variant (tenant_id, organization_id, barcode) where deleted_at is null;
create index erp_product_uom_id on erp_product (tenant_id, organization_id, uom_id, id) where deleted_at is null;
create index erp_product_category_parent_id on erp_product_category (tenant_id, organization_id, parent_id, id) where deleted_at is null;
create index erp_uom_conversion_to_uom_id on erp_uom_conversion (tenant_id, organization_id, to_uom_id, id) where deleted_at is null;

create table erp_product_component (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  kit_id uuid not null,
  component_id uuid not null,
  quantity numeric(19, 6) not null check (quantity > 0),
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  custom jsonb not null default '{}',
  unique (tenant_id, id),
  check (kit_id <> component_id),
  foreign key (tenant_id, kit_id) references erp_product (tenant_id, id),
  foreign key (tenant_id, component_id) references erp_product (tenant_id, id)
);
comment on table erp_product_component is 'What a kit is put together from. A kit may contain kits, and no kit itself.';
comment on column erp_product_component.quantity is 'In the component''s base unit, for one base unit of the kit.';
create unique index erp_product_component__kit_id__component_id_key on erp_product_component (tenant_id, organization_id, kit_id, component_id) where deleted_at is null;
create index erp_product_component_component_id on erp_product_component (tenant_id, organization_id, component_id, id) where deleted_at is null;
create index erp_product_component_recent on erp_product_component (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
call plane.protect('erp_product_component');
call plane.audited('erp_product_component');

create table erp_client_product (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  client_id uuid not null,
  product_id uuid not null,
  client_code text not null,
  client_name text,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  custom jsonb not null default '{}',
  unique (tenant_id, id),
  foreign key (tenant_id, client_id) references erp_party (tenant_id, id),
  foreign key (tenant_id, product_id) references erp_product (tenant_id, id)
);
comment on table erp_client_product is 'What a client calls a product: on his orders, on our delivery notes and invoices.';
create unique index erp_client_product__client_id__client_code_key on erp_client_product (tenant_id, organization_id, client_id, client_code) where deleted_at is null;
create unique index erp_client_product__client_id__product_id_key on erp_client_product (tenant_id, organization_id, client_id, product_id) where deleted_at is null;
create index erp_client_product_product_id on erp_client_product (tenant_id, organization_id, product_id, id) where deleted_at is null;
create index erp_client_product_recent on erp_client_product (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
call plane.protect('erp_client_product');
call plane.audited('erp_client_product');
create index erp_supplier_product_code on erp_supplier_product (tenant_id, organization_id, supplier_id, supplier_code, id) where deleted_at is null;
-- Whatever is written through the API is a record of the plan.
do $$
declare
  target regclass;
begin
  foreach target in array array['erp_party_address', 'erp_party_contact', 'erp_product_variant', 'erp_product_component', 'erp_supplier_product',
    'erp_client_product']::regclass[] loop
    call plane.counted(target);
  end loop;
end
$$;
