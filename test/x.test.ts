import t from 'tap'
import { testApp } from './support/app.ts'

t.test('x', async (t) => {
  const { tenant, request } = await testApp(t)
  await request('localhost', {
    method: 'POST',
    url: `/api/v1/registrations`,
    payload: { slug: 'abcd', name: 'R', email: `a@abc.example`, person: 'A', plan: 'professional' },
  })
  await tenant()
})
