export { asksForContacts, Description, Duplicate, duplicatesOf, duplicatesOfParty, mergeParty, PARTY_REFERENCES } from './merge.ts'
export { Party, parties } from './party.ts'
export { PartyAddress, PartyContact, partyAddresses, partyContacts } from './reach.ts'
