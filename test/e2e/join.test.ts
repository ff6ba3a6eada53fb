import { createPublicKey, generateKeyPairSync } from 'node:crypto'
import { existsSync } from 'node:fs'
import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { createServer as createHttps } from 'node:https'
import { join as joinPath } from 'node:path'
import { connect, createServer, type Server } from 'node:tls'
import type { NodeName } from '@holdfast/runtime'
import { describe, expect, it } from 'vitest'
import { join } from '../../packages/cli/src/join.ts'
import { nodeNameOfPeer, serverTlsOptions } from '../../packages/cloudcore/src/identity/index.ts'
import { IdentityCloud, temporaryFolder } from '../../packages/cloudcore/src/identity/testing/identity-fixture.ts'
import { loadIdentity } from '../../packages/edgecore/src/identity.ts'

/** A listener as the tunnel has it, that answers each client with its node's name. */
async function listenTunnel(cloud: IdentityCloud): Promise<{ readonly port: number } & AsyncDisposable> {
  const server: Server = createServer(serverTlsOptions(cloud.authority, 'tunnel'), socket => {
    socket.on('error', () => undefined).end(nodeNameOfPeer(socket, cloud.authority))
  })
  await new Promise<void>(resolve => { server.listen(0, '127.0.0.1', resolve) })
  return {
    port: (server.address() as { port: number }).port,
    [Symbol.asyncDispose]: () => new Promise<void>(resolve => { server.close(() => resolve()) })
  }
}

/** Connects as the edge does; the name that the cloud saw, or the code of the error. */
async function connectAsNode(dataDir: string): Promise<string> {
  const { serverUrl, tlsOptions } = await loadIdentity(dataDir)
  const { hostname, port } = new URL(serverUrl)
  return await new Promise(resolve => {
    let text = ''
    const socket = connect({ host: hostname, port: Number(port), ...tlsOptions })
    socket.setEncoding('utf8').on('data', (chunk: string) => { text += chunk })
      .on('end', () => resolve(text)).on('error', error => resolve((error as NodeJS.ErrnoException).code ?? ''))
  })
}

describe('holdfast join', () => {
  it('makes a node that the tunnel knows by its certificate', async () => {
    await using folder = await temporaryFolder()
    const ports = { tunnel: 0 }
    await using cloud = await IdentityCloud.start({
      folder: joinPath(folder.path, 'cloud'), tunnelPort: () => ports.tunnel
    })
    await using tunnel = await listenTunnel(cloud)
    ports.tunnel = tunnel.port
    const dataDir = joinPath(folder.path, 'var', 'edge')
    const { token } = await cloud.tokens.create({ node: 'edge-1' })
    const joined = await join({ server: `https://127.0.0.1:${cloud.port}`, token, node: 'edge-1', dataDir })
    expect(joined).toMatchObject({
      node: 'edge-1', clusterUid: cloud.authority.clusterUid, serverUrl: `wss://127.0.0.1:${tunnel.port}/v1/tunnel`
    })
    expect(await loadIdentity(dataDir)).toMatchObject({
      node: 'edge-1', clusterUid: cloud.authority.clusterUid, serverUrl: joined.serverUrl
    })
    expect(await connectAsNode(dataDir)).toBe('edge-1')
    expect(await readdir(dataDir)).toEqual(['identity'])
    expect((await stat(joined.folder)).mode & 0o777).toBe(0o700)
    expect((await readdir(joined.folder)).sort()).toEqual(['ca.crt', 'identity.json', 'node.crt', 'node.key'])
    for (const name of await readdir(joined.folder)) {
      expect((await stat(joinPath(joined.folder, name))).mode & 0o777, name).toBe(0o600)
    }
  })

  it('never sends the token to a server whose CA is not the one in it', async () => {
    await using folder = await temporaryFolder()
    await using cloud = await IdentityCloud.start({ folder: joinPath(folder.path, 'a') })
    await using impostor = await IdentityCloud.start({ folder: joinPath(folder.path, 'b') })
    const { token } = await cloud.tokens.create({})
    const server = `127.0.0.1:${impostor.port}`
    await expect(join({ server, token, node: 'edge-1', dataDir: joinPath(folder.path, 'edge') }))
      .rejects.toMatchObject({ code: 'JOIN_CA_MISMATCH' })
    expect(impostor.log.lines).not.toContain('warn join refused')
  })

  it('never sends the token to a server that shows the right CA and holds a certificate of another', async () => {
    await using folder = await temporaryFolder()
    await using cloud = await IdentityCloud.start({ folder: joinPath(folder.path, 'a') })
    await using other = await IdentityCloud.start({ folder: joinPath(folder.path, 'b') })
    const { token } = await cloud.tokens.create({})
    const seen: string[] = []
    const impostor = createHttps({ key: other.authority.server.key, cert: other.authority.server.certificate },
      (request, response) => {
        seen.push(`${request.method} ${request.url} ${request.headers.authorization ?? 'no token'}`)
        response.end(cloud.authority.caPem)
      })
    await new Promise<void>(resolve => { impostor.listen(0, '127.0.0.1', resolve) })
    const { port } = impostor.address() as { port: number }
    try {
      await expect(join({ server: `127.0.0.1:${port}`, token, node: 'edge-1', dataDir: joinPath(folder.path, 'edge') }))
        .rejects.toMatchObject({ code: 'JOIN_SERVER_UNTRUSTED' })
    } finally {
      await new Promise<void>(resolve => { impostor.close(() => resolve()) })
    }
    expect(seen).toEqual(['GET /v1/ca no token'])
  })

  it('does not take a node\'s certificate for a server\'s', async () => {
    await using folder = await temporaryFolder()
    await using cloud = await IdentityCloud.start({ folder: joinPath(folder.path, 'a') })
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const node = await cloud.authority.issueNodeCertificate('127.0.0.1' as NodeName, createPublicKey(privateKey))
    const key = privateKey.export({ format: 'pem', type: 'pkcs8' }) as string
    const impostor = createHttps({ key, cert: node.pem }, (_request, response) => response.end(cloud.authority.caPem))
    await new Promise<void>(resolve => { impostor.listen(0, '127.0.0.1', resolve) })
    const { port } = impostor.address() as { port: number }
    const { token } = await cloud.tokens.create({})
    try {
      await expect(join({ server: `127.0.0.1:${port}`, token, node: 'edge-1', dataDir: joinPath(folder.path, 'edge') }))
        .rejects.toMatchObject({ code: expect.stringMatching(/JOIN_SERVER_(UNTRUSTED|NAME)/) as string })
    } finally {
      await new Promise<void>(resolve => { impostor.close(() => resolve()) })
    }
  })

  it('says why it was refused, and leaves nothing behind', async () => {
    await using folder = await temporaryFolder()
    await using cloud = await IdentityCloud.start({ folder: joinPath(folder.path, 'cloud') })
    const server = `127.0.0.1:${cloud.port}`
    const dataDir = joinPath(folder.path, 'edge')
    const spent = (await cloud.tokens.create({})).token
    await join({ server, token: spent, node: 'edge-1', dataDir: joinPath(folder.path, 'first') })
    await expect(join({ server, token: spent, node: 'edge-1', dataDir }))
      .rejects.toMatchObject({
        code: 'JOIN_REFUSED', message: expect.stringMatching(/TOKEN_USED_UP: .*make a new one/) as string
      })
    const { token } = await cloud.tokens.create({ node: 'edge-2' })
    await expect(join({ server, token, node: 'edge-1', dataDir }))
      .rejects.toMatchObject({
        code: 'JOIN_REFUSED', message: expect.stringContaining('is for node "edge-2"') as string
      })
    expect(existsSync(dataDir)).toBe(false)
  })

  it('replaces an identity only when forced to', async () => {
    await using folder = await temporaryFolder()
    await using cloud = await IdentityCloud.start({ folder: joinPath(folder.path, 'cloud') })
    const options = { server: `127.0.0.1:${cloud.port}`, node: 'edge-1', dataDir: joinPath(folder.path, 'edge') }
    const { token } = await cloud.tokens.create({ uses: 2 })
    await join({ ...options, token })
    const before = await loadIdentity(options.dataDir)
    await expect(join({ ...options, token })).rejects.toMatchObject({ code: 'JOIN_IDENTITY_EXISTS' })
    expect(await loadIdentity(options.dataDir)).toEqual(before)
    await join({ ...options, token, force: true })
    const after = await loadIdentity(options.dataDir)
    expect(after.node).toBe('edge-1')
    expect(after.tlsOptions.key).not.toBe(before.tlsOptions.key)
    expect(await readdir(options.dataDir)).toEqual(['identity'])
  })
})

describe('the identity of a node', () => {
  async function joinTwo(path: string): Promise<readonly [string, string]> {
    await using cloud = await IdentityCloud.start({ folder: joinPath(path, 'cloud') })
    const { token } = await cloud.tokens.create({ uses: 2 })
    const dataDirs = [joinPath(path, 'edge-1'), joinPath(path, 'edge-2')] as const
    for (const dataDir of dataDirs) {
      await join({ server: `127.0.0.1:${cloud.port}`, token, node: dataDir.slice(-6), dataDir })
    }
    return dataDirs
  }

  it.each([
    ['node.key', /node\.key is not the key/], ['identity.json', /names node "edge-1", identity\.json "edge-2"/]
  ])('is refused with the %s of another node', async (name, reason) => {
    await using folder = await temporaryFolder()
    const [first, second] = await joinTwo(folder.path)
    await writeFile(joinPath(first, 'identity', name), await readFile(joinPath(second, 'identity', name)))
    await expect(loadIdentity(first)).rejects.toMatchObject({
      code: 'NODE_IDENTITY_MISMATCH', message: expect.stringMatching(reason) as string
    })
  })

  it('is refused under another CA', async () => {
    await using folder = await temporaryFolder()
    const [first] = await joinTwo(folder.path)
    await using other = await IdentityCloud.start({ folder: joinPath(folder.path, 'other') })
    await writeFile(joinPath(first, 'identity', 'ca.crt'), other.authority.caPem)
    await expect(loadIdentity(first)).rejects.toMatchObject({
      code: 'NODE_IDENTITY_MISMATCH', message: expect.stringContaining('not signed by ca.crt') as string
    })
  })

  it('does not speak to a server of another CA', async () => {
    await using folder = await temporaryFolder()
    await using cloud = await IdentityCloud.start({ folder: joinPath(folder.path, 'cloud') })
    await using other = await IdentityCloud.start({ folder: joinPath(folder.path, 'other') })
    await using tunnel = await listenTunnel(other)
    await using own = await IdentityCloud.start({
      folder: joinPath(folder.path, 'cloud'), tunnelUrl: `wss://127.0.0.1:${tunnel.port}/v1/tunnel`
    })
    const { token } = await own.tokens.create({})
    const dataDir = joinPath(folder.path, 'edge')
    await join({ server: `127.0.0.1:${own.port}`, token, node: 'edge-1', dataDir })
    expect(await connectAsNode(dataDir)).toMatch(/UNABLE_TO_VERIFY|SELF_SIGNED|CERT_SIGNATURE_FAILURE/)
    expect(cloud.authority.caPem).toBe(own.authority.caPem)
  })
})
