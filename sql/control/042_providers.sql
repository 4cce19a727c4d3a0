-- What a provider is asked for, and whether its names and addresses are taken over.
alter table res_identity_providers
  add column scopes text[] not null default '{openid,email,profile}' check (cardinality(scopes) between 1 and 20),
  add column sync_profile boolean not null default false;
comment on column res_identity_providers.scopes is 'Scopes of the authorization request; openid is asked for in any case.';
comment on column res_identity_providers.sync_profile is 'Takes over name and address of linked users at each sign-in.';

/* Erasing a user leaves nothing of them in the trail: reasons of overrides and labels of factors are texts about people. */
call plane.audited('res_user_permission_overrides', '{reason}');
call plane.audited('res_user_mfa', '{secret,public_key,label}');
