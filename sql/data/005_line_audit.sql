-- A document's lines change together and are read together in its history.
call plane.audited('erp_purchase_order_line', parent => 'order_id');
