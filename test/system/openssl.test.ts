import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { Fleet } from '../harness/daemons.ts'
import { check, missing, run } from './programs.ts'

const absent = missing('openssl')
let fleet: Fleet
let folder: string
let identity: string

beforeAll(async () => {
  if (absent !== undefined) return
  folder = await mkdtemp(join(tmpdir(), 'holdfast-system-'))
  fleet = await Fleet.start()
  identity = join((await fleet.join('edge-1')).dataDir, 'identity')
})
afterAll(async () => {
  if (absent !== undefined) return
  await fleet[Symbol.asyncDispose]()
  await rm(folder, { recursive: true, force: true })
})
beforeEach(({ skip }) => { skip(absent !== undefined, absent) })

const request = 'GET /healthz HTTP/1.1\r\nHost: cloud\r\nConnection: close\r\n\r\n'

/** What a client of a port is told; both streams of openssl. One that is to be refused sends nothing, and reads why. */
async function connect(port: 'tunnel' | 'https', input: string, ...args: readonly string[]): Promise<string> {
  const { host } = new URL(fleet.cloud.endpoints[port]!)
  const { stdout, stderr } = await run('openssl',
    ['s_client', '-connect', host, '-CAfile', join(identity, 'ca.crt'), '-verify_return_error', '-ign_eof', ...args],
    { input })
  return stdout + stderr
}

const own = (): string[] => ['-cert', join(identity, 'node.crt'), '-key', join(identity, 'node.key')]

it('the tunnel takes TLS 1.3 with a certificate of this cluster, and shows one that its CA verifies', async () => {
  expect(await connect('tunnel', request, ...own())).toMatch(/TLSv1\.3[\s\S]*Verify return code: 0 \(ok\)[\s\S]*HTTP\/1\.1 426/)
})

it('the tunnel refuses a client without a certificate', async () => {
  const said = await connect('tunnel', '')
  expect(said).toContain('alert certificate required')
})

it('the tunnel refuses a certificate of somebody else\'s making', async () => {
  const [key, certificate] = [join(folder, 'key.pem'), join(folder, 'certificate.pem')]
  await check('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30',
    '-keyout', key, '-out', certificate, '-subj', '/O=Holdfast/CN=node:edge-1'])
  const said = await connect('tunnel', request, '-cert', certificate, '-key', key)
  expect(said).toMatch(/alert|unexpected eof|errno=/)
  expect(said).not.toContain('HTTP/1.1')
})

it.each(['tunnel', 'https'] as const)('%s refuses TLS 1.2', async port => {
  expect(await connect(port, '', '-tls1_2', ...own())).toContain('alert protocol version')
})

it('https asks for no certificate, since joining nodes have none', async () => {
  expect(await connect('https', request)).toMatch(/TLSv1\.3[\s\S]*Verify return code: 0 \(ok\)[\s\S]*HTTP\/1\.1 200/)
})

it('the node\'s certificate is verified by the cluster\'s CA, for a client only, and names node and cluster', async () => {
  const verify = ['verify', '-CAfile', join(identity, 'ca.crt'), '-purpose']
  expect(await check('openssl', [...verify, 'sslclient', join(identity, 'node.crt')])).toContain(': OK')
  expect((await run('openssl', [...verify, 'sslserver', join(identity, 'node.crt')])).code).not.toBe(0)
  expect(await check('openssl', ['x509', '-in', join(identity, 'node.crt'), '-noout', '-ext', 'subjectAltName']))
    .toMatch(/URI:holdfast:\/\/[0-9a-f-]{36}\/nodes\/edge-1/)
})
