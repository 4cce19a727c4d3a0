export { ExchangeRate, exchangeRates, isCurrencyUsed, rateOfDay } from './exchange-rate.ts'
export { PriceList, PriceListItem, priceListItems, priceLists } from './price-list.ts'
export { PriceAnswer, PriceQuestion, resolvePrices } from './resolve.ts'
