-- What counts as a record of the plan.
do $$
declare
  target regclass;
begin
  foreach target in array array['erp_party', 'erp_product_category', 'erp_product', 'erp_uom', 'erp_uom_conversion', 'erp_location', 'erp_reorder_rule',
    'erp_purchase_order', 'erp_goods_receipt']::regclass[] loop
    call plane.counted(target);
  end loop;
end
$$;
