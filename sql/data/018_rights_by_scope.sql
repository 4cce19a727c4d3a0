/* Lists of a workspace's documents, as a member of that workspace alone reads them. */
create index erp_purchase_order_workspace on erp_purchase_order (tenant_id, organization_id, workspace_id, created_at desc, id desc) where deleted_at is null;
create index erp_goods_receipt_workspace on erp_goods_receipt (tenant_id, organization_id, workspace_id, created_at desc, id desc) where deleted_at is null;
create index erp_stock_transfer_workspace on erp_stock_transfer (tenant_id, organization_id, workspace_id, created_at desc, id desc) where deleted_at is null;
create index erp_stock_count_workspace on erp_stock_count (tenant_id, organization_id, workspace_id, created_at desc, id desc) where deleted_at is null;
create index erp_landed_cost_workspace on erp_landed_cost (tenant_id, organization_id, workspace_id, created_at desc, id desc) where deleted_at is null;
create index erp_import_workspace on erp_import (tenant_id, organization_id, workspace_id, created_at desc, id desc) where deleted_at is null;
create index erp_export_workspace on erp_export (tenant_id, organization_id, workspace_id, created_at desc, id desc) where deleted_at is null;

/* Four eyes: a user who requested, edited or submitted an order does not approve it. */
alter table erp_purchase_order add column submitted_by uuid;
alter table erp_purchase_order add column edited_by uuid[] not null default '{}';
comment on column erp_purchase_order.edited_by is 'The users who changed it, each once.';

/* Amounts in other currencies are compared in the organization's own, at the rate of the day. */
create table erp_exchange_rate (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  currency char(3) not null,
  rate numeric(18, 9) not null check (rate > 0),
  changed_by uuid,
  valid_from date not null,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  unique (tenant_id, id)
);
comment on column erp_exchange_rate.changed_by is 'The user who recorded, changed or deleted it last: they approve no order by it.';
create function note_exchange_rate_author() returns trigger language plpgsql as $$
begin
  new.changed_by = nullif(current_setting('tenantry.actor_id', true), '')::uuid;
  return new;
end
$$;
create trigger note_author before insert or update on erp_exchange_rate for each row execute function note_exchange_rate_author();
comment on column erp_exchange_rate.rate is 'What one of the currency is in the organization''s own.';
comment on column erp_exchange_rate.valid_from is 'The first day; the rate holds until the next one begins.';
create unique index erp_exchange_rate__currency_key on erp_exchange_rate (tenant_id, organization_id, currency, valid_from) where deleted_at is null;
create index erp_exchange_rate_valid_from on erp_exchange_rate (tenant_id, organization_id, valid_from, id) where deleted_at is null;
create index erp_exchange_rate_recent on erp_exchange_rate (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
call plane.protect('erp_exchange_rate');
call plane.audited('erp_exchange_rate');

/* The amount of an approval in the organization's currency, as it was compared with the approver's limit. */
alter table erp_purchase_approval add column exchange_rate numeric(18, 9) not null default 1 check (exchange_rate > 0);
call plane.counted('erp_exchange_rate');

/* A file belongs to the workspace where it was uploaded; files of before belong to the organization. */
alter table file_object add column workspace_id uuid;
create index file_object_workspace on file_object (tenant_id, organization_id, workspace_id, created_at desc, id desc) where deleted_at is null;
