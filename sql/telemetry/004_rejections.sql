create index tel_rejection_recent on tel_rejection (tenant_id, hour desc, device, reason);
