insert into platform_menu_items (code, parent, labels, path, icon, sort, module, permission) values
  ('erp.parties.parties', 'erp.parties', '{"en":"Parties","es":"Terceros","pt":"Parceiros","tr":"Cariler","az":"Tərəfdaşlar"}', '/erp/parties', 'users', 1, 'erp.parties', 'erp.party.read'),
  ('erp.parties.addresses', 'erp.parties', '{"en":"Addresses","es":"Direcciones","pt":"Endereços","tr":"Adresler","az":"Ünvanlar"}', '/erp/party-addresses', 'map-pin', 2, 'erp.parties', 'erp.party_address.read'),
  ('erp.parties.contacts', 'erp.parties', '{"en":"Contacts","es":"Contactos","pt":"Contatos","tr":"İlgili kişiler","az":"Əlaqələr"}', '/erp/party-contacts', 'phone', 3, 'erp.parties', 'erp.party_contact.read'),
  ('erp.parties.client_products', 'erp.parties', '{"en":"Clients’ own codes","es":"Códigos de clientes","pt":"Códigos de clientes","tr":"Müşteri kodları","az":"Müştəri kodları"}', '/erp/client-products', 'tag', 4, 'erp.products', 'erp.client_product.read'),
  ('erp.parties.supplier_products', 'erp.parties', '{"en":"Suppliers’ own codes","es":"Códigos de proveedores","pt":"Códigos de fornecedores","tr":"Tedarikçi kodları","az":"Təchizatçı kodları"}', '/erp/supplier-products', 'tag', 5, 'erp.products', 'erp.supplier_product.read'),
  ('erp.products.variants', 'erp.products', '{"en":"Variants","es":"Variantes","pt":"Variantes","tr":"Varyantlar","az":"Variantlar"}', '/erp/product-variants', 'layers', 5, 'erp.products', 'erp.product_variant.read'),
  ('erp.products.components', 'erp.products', '{"en":"Kits","es":"Kits","pt":"Kits","tr":"Takımlar","az":"Dəstlər"}', '/erp/product-components', 'package', 6, 'erp.products', 'erp.product_component.read');
update platform_menu_items set path = null, permission = null where code = 'erp.parties';
insert into platform_menu_items (code, parent, labels, path, icon, sort, module, permission) values
  ('erp.products.price_lists', 'erp.products', '{"en":"Price lists","es":"Listas de precios","pt":"Listas de preços","tr":"Fiyat listeleri","az":"Qiymət siyahıları"}', '/erp/price-lists', 'dollar-sign', 7, 'erp.products', 'erp.price_list.read'),
  ('erp.products.prices', 'erp.products', '{"en":"Prices","es":"Precios","pt":"Preços","tr":"Fiyatlar","az":"Qiymətlər"}', '/erp/price-list-items', 'list', 8, 'erp.products', 'erp.price_list_item.read'),
  ('erp.products.taxes', 'erp.products', '{"en":"Taxes","es":"Impuestos","pt":"Impostos","tr":"Vergiler","az":"Vergilər"}', '/erp/taxes', 'percent', 9, 'erp.products', 'erp.tax.read');
