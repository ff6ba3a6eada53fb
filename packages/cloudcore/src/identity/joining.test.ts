import { execFile } from 'node:child_process'
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, X509Certificate } from 'node:crypto'
import { existsSync } from 'node:fs'
import { readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { connect, createServer, type TLSSocket } from 'node:tls'
import { promisify } from 'node:util'
import { decodePem, encodePem, type NodeName, silentLog } from '@holdfast/runtime'
import { describe, expect, it } from 'vitest'
import { Authority, nodeNameOfPeer, serverTlsOptions, Tokens } from './index.ts'
import {
  call, callJoin, certificateRequest, ed25519, IdentityCloud, p256, type Reply, ShiftedClock, temporaryFolder
} from './testing/identity-fixture.ts'

function withBytesAfter(pem: string): string {
  const label = 'CERTIFICATE REQUEST'
  return encodePem(label, Buffer.concat([decodePem(label, pem)!, Buffer.from([5, 0])]))
}

const problem = (reply: Reply): Record<string, unknown> => JSON.parse(reply.text) as Record<string, unknown>

describe('joining', () => {
  it('answers a certificate under the name that the cloud accepted, whatever the request calls itself', async () => {
    await using folder = await temporaryFolder()
    await using cloud = await IdentityCloud.start({ folder: folder.path, tunnelPort: () => 4711 })
    const { token } = await cloud.tokens.create({})
    const key = p256()
    const reply = await callJoin(cloud, token, { node: 'edge-1', csr: certificateRequest(key, 'node:somebody-else') })
    expect(reply.status).toBe(201)
    const answer = JSON.parse(reply.text) as Record<string, string>
    const certificate = new X509Certificate(answer['certificate']!)
    expect(certificate.publicKey.equals(createPublicKey(key))).toBe(true)
    expect(certificate.verify(cloud.authority.ca.publicKey)).toBe(true)
    expect(certificate.subject).toBe('O=Holdfast\nCN=node:edge-1')
    expect(certificate.subjectAltName).toBe(`URI:holdfast://${cloud.authority.clusterUid}/nodes/edge-1`)
    expect(answer).toMatchObject({
      node: 'edge-1', ca: cloud.authority.caPem, clusterUid: cloud.authority.clusterUid,
      tunnelUrl: 'wss://127.0.0.1:4711/v1/tunnel', notAfter: certificate.validToDate.toISOString()
    })
  })

  it('is possible again under a name that has joined before, and is logged as such', async () => {
    await using folder = await temporaryFolder()
    await using cloud = await IdentityCloud.start({ folder: folder.path })
    const { token } = await cloud.tokens.create({ uses: 2 })
    const first = await callJoin(cloud, token, { node: 'edge-1', csr: certificateRequest(p256()) })
    const { certificate } = JSON.parse(first.text) as { certificate: string }
    expect((await callJoin(cloud, token, { node: 'edge-1', csr: certificateRequest(p256()) })).status).toBe(201)
    expect(cloud.log.lines.slice(-2)).toEqual(['info node joined', 'info node joined again'])
    expect(cloud.log.fields.at(-1)).toMatchObject({ replaced: new X509Certificate(certificate).serialNumber })
  })

  it.each([
    ['a P-384 key', () => certificateRequest(generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey), /P-256/],
    ['an RSA key', () => certificateRequest(generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey), /P-256/],
    ['a signature by another key', () => certificateRequest(p256(), 'x', createPublicKey(p256())), /signature/],
    ['bytes after the request', () => withBytesAfter(certificateRequest(p256())), /DER/],
    ['text in its base64', () => certificateRequest(p256()).replace('\n-----END', '=A=\n-----END'), /PEM/],
    ['no PEM', () => 'hello', /PEM/],
    ['another PEM', () => certificateRequest(p256()).replaceAll('CERTIFICATE REQUEST', 'CERTIFICATE'), /PEM/],
    ['a length that lies', () => encodePem('CERTIFICATE REQUEST', Buffer.from('3084ffffffff', 'hex')), /DER/]
  ])('refuses a certificate request with %s and leaves the token unused', async (_what, csr, reason) => {
    await using folder = await temporaryFolder()
    await using cloud = await IdentityCloud.start({ folder: folder.path })
    const { token } = await cloud.tokens.create({})
    const refused = await callJoin(cloud, token, { node: 'edge-1', csr: csr() })
    expect(problem(refused)).toMatchObject({
      status: 400, code: 'JOIN_REQUEST_INVALID', detail: expect.stringMatching(reason) as string
    })
    expect(refused.headers['content-type']).toBe('application/problem+json')
    expect((await callJoin(cloud, token, { node: 'edge-1', csr: certificateRequest(p256()) })).status).toBe(201)
  })

  it.each(['', 'Edge', 'a_b', '-a', 'a-', 'a..b', '../ca', 'x'.repeat(64), 'a.'.repeat(127), 7, null])(
    'refuses the node name %j', async node => {
      await using folder = await temporaryFolder()
      await using cloud = await IdentityCloud.start({ folder: folder.path })
      const { token } = await cloud.tokens.create({})
      expect(problem(await callJoin(cloud, token, { node, csr: certificateRequest(p256()) })))
        .toMatchObject({ status: 400, code: 'JOIN_REQUEST_INVALID' })
    })

  it.runIf(existsSync('/usr/bin/openssl'))('accepts the requests that OpenSSL makes', async () => {
    await using folder = await temporaryFolder()
    await using cloud = await IdentityCloud.start({ folder: folder.path })
    const { token } = await cloud.tokens.create({ uses: 2 })
    for (const algorithm of [['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'], ['-newkey', 'ed25519']]) {
      const { stdout } = await promisify(execFile)('/usr/bin/openssl', ['req', '-new', '-nodes', ...algorithm,
        '-subj', '/CN=x', '-addext', 'subjectAltName=DNS:other', '-keyout', join(folder.path, 'openssl.key')])
      const reply = await callJoin(cloud, token, { node: 'edge-1', csr: stdout })
      expect(reply.status, reply.text).toBe(201)
      const { certificate } = JSON.parse(reply.text) as { certificate: string }
      expect(new X509Certificate(certificate).subjectAltName).not.toContain('other')
    }
  })
})

describe('join tokens', () => {
  it('pin the CA and are kept as a hash', async () => {
    await using folder = await temporaryFolder()
    await using cloud = await IdentityCloud.start({ folder: folder.path })
    const beforeMs = cloud.clock.wallMs()
    const { token, id, uses, node, expires } = await cloud.joining.handleTokenCreate({ ttlSeconds: 60, node: 'edge-1' })
    const afterMs = cloud.clock.wallMs()
    const [version, ca, name, secret] = token.split('.')
    expect(version).toBe('hf1')
    expect(Buffer.from(ca!, 'base64url').toString('hex').toUpperCase())
      .toBe(cloud.authority.ca.fingerprint256.replaceAll(':', ''))
    expect({ name, uses, node }).toEqual({ name: id, uses: 1, node: 'edge-1' })
    const madeMs = Date.parse(expires) - 60_000
    expect([madeMs >= beforeMs, madeMs <= afterMs]).toEqual([true, true])
    const kept = await readFile(join(folder.path, 'tokens.json'), 'utf8')
    expect(kept).toContain(id)
    expect(kept).not.toContain(secret)
  })

  it.each([
    ['an expired one', { ttlSeconds: 60 }, 'TOKEN_EXPIRED', 401],
    ['one for another node', { node: 'edge-2' }, 'TOKEN_WRONG_NODE', 403]
  ])('let nobody in with %s', async (_what, request, code, status) => {
    await using folder = await temporaryFolder()
    await using cloud = await IdentityCloud.start({ folder: folder.path })
    const { token } = await cloud.tokens.create(request)
    cloud.clock.shiftMs = 61_000
    expect(problem(await callJoin(cloud, token, { node: 'edge-1', csr: certificateRequest(p256()) })))
      .toMatchObject({ status, code })
  })

  it('are used once, also after a restart and by two at the same time', async () => {
    await using folder = await temporaryFolder()
    let token = ''
    {
      await using cloud = await IdentityCloud.start({ folder: folder.path })
      token = (await cloud.tokens.create({})).token
      const replies = await Promise.all(['edge-1', 'edge-2', 'edge-3'].map(node =>
        callJoin(cloud, token, { node, csr: certificateRequest(p256()) })))
      expect(replies.map(reply => reply.status).sort()).toEqual([201, 401, 401])
    }
    await using cloud = await IdentityCloud.start({ folder: folder.path })
    expect(problem(await callJoin(cloud, token, { node: 'edge-1', csr: certificateRequest(p256()) })))
      .toMatchObject({ status: 401, code: 'TOKEN_USED_UP' })
  })

  it('may be shown again with the same key and name, for an answer that was lost', async () => {
    await using folder = await temporaryFolder()
    await using cloud = await IdentityCloud.start({ folder: folder.path })
    const { token } = await cloud.tokens.create({})
    const csr = certificateRequest(p256())
    expect((await callJoin(cloud, token, { node: 'edge-1', csr })).status).toBe(201)
    expect((await callJoin(cloud, token, { node: 'edge-1', csr })).status).toBe(201)
    expect((await callJoin(cloud, token, { node: 'edge-2', csr })).status).toBe(401)
  })

  it('are worth nothing with another secret, of another cluster, or cut', async () => {
    await using folder = await temporaryFolder()
    await using elsewhere = await temporaryFolder()
    await using cloud = await IdentityCloud.start({ folder: folder.path })
    await using other = await IdentityCloud.start({ folder: elsewhere.path })
    const { token } = await cloud.tokens.create({})
    const foreign = (await other.tokens.create({})).token
    const pinnedElsewhere = foreign.split('.').slice(0, 2).concat(token.split('.').slice(2)).join('.')
    const changed = token.slice(0, -4) + (token.endsWith('AAAA') ? 'BBBB' : 'AAAA')
    for (const wrong of [foreign, changed, token.slice(0, -2), `${token}.x`, pinnedElsewhere, 'x']) {
      const reply = await callJoin(cloud, wrong, { node: 'edge-1', csr: certificateRequest(p256()) })
      expect(problem(reply)).toMatchObject({ status: 401, code: 'TOKEN_UNKNOWN' })
      expect(reply.headers['www-authenticate']).toBe('Bearer')
    }
  })

  it.each([
    [[], 'object'], [{ ttl: 1 }, '"ttl"'], [{ ttlSeconds: 0 }, 'ttlSeconds'], [{ ttlSeconds: 1e9 }, 'ttlSeconds'],
    [{ uses: 1.5 }, 'uses'], [{ uses: '1' }, 'uses'], [{ node: 'A' }, 'node']
  ])('are not made for %j', async (request, names) => {
    await using folder = await temporaryFolder()
    const components = { clock: new ShiftedClock(), log: silentLog }
    const authority = await Authority.open({ folder: folder.path, serverNames: [], hostname: 'h' }, components)
    const tokens = await Tokens.open({ folder: folder.path, ca: authority.ca }, components)
    await expect((async () => await tokens.create(request))())
      .rejects.toMatchObject({ code: 'TOKEN_REQUEST_INVALID', message: expect.stringContaining(names) as string })
  })

  it('that cannot be read are moved aside, loudly, and new ones work', async () => {
    await using folder = await temporaryFolder()
    await writeFile(join(folder.path, 'tokens.json'), '{"version":1,"tok')
    const authorityFolder = join(folder.path, 'identity')
    await using first = await IdentityCloud.start({ folder: authorityFolder })
    await writeFile(join(authorityFolder, 'tokens.json'), '{"version":1,"tok')
    await using second = await IdentityCloud.start({ folder: authorityFolder })
    expect(second.log.lines).toContain('error the join tokens cannot be read; make new ones')
    expect(second.authority.clusterUid).toBe(first.authority.clusterUid)
    const { token } = await second.tokens.create({})
    expect((await callJoin(second, token, { node: 'edge-1', csr: certificateRequest(p256()) })).status).toBe(201)
  })

  it('whose use cannot be stored issue nothing', async () => {
    await using folder = await temporaryFolder()
    await using cloud = await IdentityCloud.start({ folder: join(folder.path, 'identity') })
    const { token } = await cloud.tokens.create({})
    await rename(join(folder.path, 'identity'), join(folder.path, 'elsewhere'))
    const body = { node: 'edge-1', csr: certificateRequest(p256()) }
    expect(problem(await callJoin(cloud, token, body))).toMatchObject({ status: 503, code: 'JOIN_NOT_STORED' })
    await rename(join(folder.path, 'elsewhere'), join(folder.path, 'identity'))
    expect((await callJoin(cloud, token, body)).status).toBe(201)
  })
})

describe('the HTTPS listener', () => {
  it('serves the CA and its health, and nothing else', async () => {
    await using folder = await temporaryFolder()
    await using cloud = await IdentityCloud.start({ folder: folder.path })
    const get = (path: string, method = 'GET'): Promise<Reply> =>
      call(cloud.port, cloud.authority.caPem, { path, method })
    expect(await get('/v1/ca')).toMatchObject({ status: 200, text: cloud.authority.caPem })
    expect(await get('/healthz')).toMatchObject({ status: 200, text: 'ok\n' })
    expect(problem(await get('/v1/tokens', 'POST'))).toMatchObject({ status: 404, type: 'about:blank' })
    expect(await get('/v1/join')).toMatchObject({ status: 405, headers: { allow: 'POST' } })
  })

  it('refuses bodies that are large, not JSON, or not said to be', async () => {
    await using folder = await temporaryFolder()
    await using cloud = await IdentityCloud.start({ folder: folder.path })
    const { token } = await cloud.tokens.create({})
    const post = async (body: string, type = 'application/json'): Promise<Record<string, unknown>> =>
      problem(await call(cloud.port, cloud.authority.caPem, {
        method: 'POST', path: '/v1/join', body, headers: { 'Authorization': `Bearer ${token}`, 'Content-Type': type }
      }))
    expect(await post('x'.repeat(65 * 1024))).toMatchObject({ status: 413, code: 'JOIN_BODY_TOO_LARGE' })
    expect(await post('{')).toMatchObject({ status: 400, code: 'JOIN_REQUEST_INVALID' })
    expect(await post('null')).toMatchObject({ status: 400, code: 'JOIN_REQUEST_INVALID' })
    expect(await post('{}', 'text/plain')).toMatchObject({ status: 415, code: 'JOIN_MEDIA_TYPE' })
  })

  it('answers 429 after ten failures, until the minute is over, but not to a holder of a good token (L9)', async () => {
    await using folder = await temporaryFolder()
    await using cloud = await IdentityCloud.start({ folder: folder.path })
    const { token } = await cloud.tokens.create({ uses: 2 })
    const body = { node: 'edge-1', csr: certificateRequest(p256()) }
    for (let i = 0; i < 10; i++) expect((await callJoin(cloud, 'wrong', body)).status).toBe(401)
    const limited = await callJoin(cloud, 'wrong', body)
    expect(problem(limited)).toMatchObject({ status: 429, code: 'JOIN_RATE_LIMITED' })
    expect(Number(limited.headers['retry-after'])).toBeGreaterThan(0)
    expect((await callJoin(cloud, token, body)).status).toBe(201)
    cloud.clock.shiftMs = 61_000
    expect((await callJoin(cloud, 'wrong', body)).status).toBe(401)
  })

  it('limits a good token in the hands of a broken client', async () => {
    await using folder = await temporaryFolder()
    await using cloud = await IdentityCloud.start({ folder: folder.path })
    const { token } = await cloud.tokens.create({})
    for (let i = 0; i < 10; i++) expect((await callJoin(cloud, token, {})).status).toBe(400)
    expect((await callJoin(cloud, token, {})).status).toBe(429)
  })
})

interface Credential { readonly key: KeyObject; readonly cert: string }

/** Connects to a tunnel listener; resolves with the name that the server saw, or with why it saw none. */
async function handshake(
  server: Authority, client: Credential | undefined, options: { maxVersion?: 'TLSv1.2' } = {}
): Promise<string> {
  const listener = createServer(serverTlsOptions(server, 'tunnel'))
  const seen = new Promise<string>(resolve => {
    listener.on('secureConnection', socket => {
      socket.on('error', () => undefined)
      try {
        resolve(`node ${nodeNameOfPeer(socket, server)}`)
      } catch (error) {
        resolve((error as { code: string }).code)
      }
    })
    listener.on('tlsClientError', error => resolve((error as NodeJS.ErrnoException).code ?? error.message))
  })
  await new Promise<void>(resolve => listener.listen(0, '127.0.0.1', resolve))
  const { port } = listener.address() as { port: number }
  const socket: TLSSocket = connect({
    host: '127.0.0.1', port, ca: server.caPem, ...options,
    ...client === undefined ? {} : { key: client.key.export({ format: 'pem', type: 'pkcs8' }), cert: client.cert }
  })
  socket.on('error', () => undefined)
  try {
    return await seen
  } finally {
    socket.destroy()
    await new Promise<void>(resolve => { listener.close(() => resolve()) })
  }
}

describe('a tunnel listener', () => {
  const openAuthority = (folder: string): Promise<Authority> =>
    Authority.open({ folder, serverNames: [], hostname: 'h' }, { clock: new ShiftedClock(), log: silentLog })

  it.each([
    ['P-256', p256], ['Ed25519', ed25519]
  ])('knows a node by its certificate with a %s key', async (_type, make) => {
    await using folder = await temporaryFolder()
    const authority = await openAuthority(folder.path)
    const key = make()
    const { pem } = await authority.issueNodeCertificate('edge-1' as NodeName, createPublicKey(key))
    expect(await handshake(authority, { key, cert: pem })).toBe('node edge-1')
  })

  it('refuses a client without a certificate, with one of another CA, with a server\'s, or with TLS 1.2', async () => {
    await using folder = await temporaryFolder()
    await using elsewhere = await temporaryFolder()
    const [authority, other] = await Promise.all([openAuthority(folder.path), openAuthority(elsewhere.path)])
    const key = p256()
    const own = { key, cert: (await authority.issueNodeCertificate('edge-1' as NodeName, createPublicKey(key))).pem }
    const foreign = { key, cert: (await other.issueNodeCertificate('edge-1' as NodeName, createPublicKey(key))).pem }
    const server = { key: createPrivateKey(authority.server.key), cert: authority.server.certificate }
    expect(await handshake(authority, undefined)).toMatch(/DID_NOT_RETURN_A_CERTIFICATE|ECONNRESET/)
    expect(await handshake(authority, foreign)).not.toMatch(/^node|^NODE/)
    expect(await handshake(authority, server)).not.toMatch(/^node|^NODE/)
    expect(await handshake(authority, own, { maxVersion: 'TLSv1.2' })).toMatch(/UNSUPPORTED_PROTOCOL|PROTOCOL_VERSION/)
  })
})
