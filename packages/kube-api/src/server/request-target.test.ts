import fc from 'fast-check'
import { expect, test } from 'vitest'
import { parseTarget } from './request-target.ts'

test.each([
  ['/api/v1/pods', { group: '', version: 'v1', plural: 'pods' }],
  ['/api/v1/nodes/n/status', { plural: 'nodes', name: 'n', subresource: 'status' }],
  ['/api/v1/namespaces', { plural: 'namespaces', namespace: undefined, name: undefined }],
  ['/api/v1/namespaces/ns', { plural: 'namespaces', name: 'ns', namespace: undefined }],
  ['/api/v1/namespaces/ns/finalize', { plural: 'namespaces', name: 'ns', subresource: 'finalize', namespace: undefined }],
  ['/api/v1/namespaces/ns/configmaps', { plural: 'configmaps', namespace: 'ns', name: undefined }],
  ['/api/v1/namespaces/status/pods/x', { plural: 'pods', namespace: 'status', name: 'x' }],
  ['/api/v1/watch/namespaces/ns/pods', { plural: 'pods', namespace: 'ns', watchPrefix: true }],
  ['/apis/g.io/v2/namespaces/ns/things/a%2Fb/', { group: 'g.io', version: 'v2', plural: 'things', namespace: 'ns', name: 'a/b' }]
])('%s names a resource', (path, expected) => {
  expect(parseTarget(path)).toMatchObject({ kind: 'resource', ...expected })
})

test.each([
  ['/', '/'], ['/api', '/api'], ['/api/v1/', '/api/v1'], ['/apis/g.io/v1', '/apis/g.io/v1'], ['/version/', '/version'],
  ['/api/v1//pods', '/api/v1//pods'], ['/api/v1/namespaces/ns/pods/x/log/more', '/api/v1/namespaces/ns/pods/x/log/more']
])('%s is a document', (path, expected) => {
  expect(parseTarget(path)).toEqual({ kind: 'document', path: expected })
})

test('a path of nothing but slashes is read in no time', () => {
  expect(parseTarget('/'.repeat(1_000_000))).toEqual({ kind: 'document', path: '/' })
  expect(parseTarget(`${'/'.repeat(100_000)}x`).kind).toBe('document')
})

test('any path is one or the other, or no percent-encoded UTF-8', () => {
  const part = fc.constantFrom('', 'api', 'apis', 'v1', 'namespaces', 'watch', 'status', 'x', '%2F', '%ff', '__proto__')
  fc.assert(fc.property(fc.array(part, { maxLength: 9 }), parts => {
    try {
      expect(['resource', 'document']).toContain(parseTarget(`/${parts.join('/')}`).kind)
    } catch (error) {
      expect(error).toBeInstanceOf(URIError)
    }
  }))
})
