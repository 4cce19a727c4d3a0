-- A file belongs to the workspace in which it was uploaded, until it is attached to a record of the whole organization.
alter table file_object add column workspace_id uuid;
comment on column file_object.workspace_id is 'Null where the whole organization sees it: attached to its master data, or uploaded outside of a workspace.';
create index file_object_workspace on file_object (tenant_id, organization_id, workspace_id, created_at desc, id desc) where deleted_at is null;
