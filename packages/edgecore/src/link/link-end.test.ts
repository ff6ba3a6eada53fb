import { expect, test } from 'vitest'
import { dialFailure } from './dial-failure.ts'
import { kindOfEnd } from './link-end.ts'

const url = 'wss://cloud.example:10000'
const failed = (code: string, message = 'x'): string => dialFailure(url, Object.assign(new Error(message), { code }))

test.each([
  ['SELF_SIGNED_CERT_IN_CHAIN', /^LINK_SERVER_UNTRUSTED: wss:\/\/cloud.example:10000 has a certificate of another CA .*join again/],
  ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', /^LINK_SERVER_UNTRUSTED: /],
  ['CERT_SIGNATURE_FAILURE', /another CA/],
  ['CERT_HAS_EXPIRED', /^LINK_SERVER_UNTRUSTED: .*clock/],
  ['ERR_TLS_CERT_ALTNAME_INVALID', /^LINK_SERVER_NAME: .*"cloud.example".*serverNames/],
  ['ERR_SSL_TLSV1_ALERT_UNKNOWN_CA', /^LINK_NODE_REFUSED: /],
  ['ERR_SSL_WRONG_VERSION_NUMBER', /^LINK_SERVER_FOREIGN: /]
])('%s is trouble, and says what to do', (code, text) => {
  expect(failed(code)).toMatch(text)
  expect(kindOfEnd('closed', failed(code))).toBe('trouble')
})

test('an answer that is no tunnel\'s is trouble', () => {
  expect(failed('', 'Unexpected server response: 403')).toMatch(/^LINK_NODE_REFUSED/)
  expect(failed('', 'Unexpected server response: 404')).toMatch(/^LINK_SERVER_FOREIGN/)
})

test('what a network does is routine', () => {
  expect(failed('ECONNREFUSED', 'connect ECONNREFUSED 127.0.0.1:1')).toBe('connect ECONNREFUSED 127.0.0.1:1')
  const both = new AggregateError(['a', 'b'].map(text => new Error(`connect ECONNREFUSED ${text}`)))
  expect(dialFailure(url, both)).toBe('connect ECONNREFUSED a, connect ECONNREFUSED b')
  expect(kindOfEnd('closed', failed('ECONNREFUSED'))).toBe('routine')
  expect(kindOfEnd('silent', '')).toBe('routine')
})

test('a refusal is trouble unless it passes by itself', () => {
  expect(kindOfEnd('refused', 'DUPLICATE_IDENTITY: two machines')).toBe('trouble')
  expect(kindOfEnd('refused', 'PROTOCOL_UNSUPPORTED: upgrade')).toBe('trouble')
  expect(kindOfEnd('refused', 'STOPPING: cloudcore is stopping')).toBe('routine')
})
