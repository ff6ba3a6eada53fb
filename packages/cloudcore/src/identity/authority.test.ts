import { execFile } from 'node:child_process'
import { createPublicKey, X509Certificate } from 'node:crypto'
import { existsSync } from 'node:fs'
import { readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type NodeName, parseNodeName } from '@holdfast/runtime'
import { describe, expect, it } from 'vitest'
import { Authority, nodeNameFromCertificate } from './index.ts'
import { KeptLog, p256, ShiftedClock, temporaryFolder } from './testing/identity-fixture.ts'

const yearMs = 366 * 86_400_000

function open(
  folder: string, serverNames: readonly string[] = [], clock = new ShiftedClock(), log = new KeptLog()
): Promise<Authority> {
  return Authority.open({ folder, serverNames, hostname: 'cloud-host' }, { clock, log })
}

describe('the cluster identity', () => {
  it('is made at the first start and opened unchanged at the next', async () => {
    await using folder = await temporaryFolder()
    const path = join(folder.path, 'identity')
    const first = await open(path)
    const second = await open(path)
    expect(second.clusterUid).toBe(first.clusterUid)
    expect(second.caPem).toBe(first.caPem)
    expect(second.server).toEqual(first.server)
  })

  it('is for its owner only', async () => {
    await using folder = await temporaryFolder()
    const path = join(folder.path, 'identity')
    await (await open(path)).issueNodeCertificate('edge-1' as NodeName, createPublicKey(p256()))
    expect((await stat(path)).mode & 0o777).toBe(0o700)
    const files = (await readdir(path, { recursive: true, withFileTypes: true })).filter(entry => entry.isFile())
    expect(files).toHaveLength(3)
    for (const file of files) expect((await stat(join(file.parentPath, file.name))).mode & 0o777, file.name).toBe(0o600)
  })

  it('serves under the configured names, this machine and loopback, and follows when these change', async () => {
    await using folder = await temporaryFolder()
    const first = await open(folder.path, ['cloud.example', '10.1.2.3', 'fd00::12:1'])
    const server = new X509Certificate(first.server.certificate)
    for (const name of ['cloud.example', 'cloud-host', 'localhost']) expect(server.checkHost(name), name).toBeDefined()
    for (const ip of ['10.1.2.3', 'fd00::12:1', '127.0.0.1', '::1']) expect(server.checkIP(ip), ip).toBeDefined()
    expect(server.checkHost('other.example')).toBeUndefined()

    const same = await open(folder.path, ['fd00::12:1', 'cloud.example', '10.1.2.3'])
    expect(same.server).toEqual(first.server)
    const renamed = await open(folder.path, ['cloud2.example'])
    expect(renamed.caPem).toBe(first.caPem)
    expect(new X509Certificate(renamed.server.certificate).checkHost('cloud2.example')).toBeDefined()
    expect(new X509Certificate(renamed.server.certificate).checkHost('cloud.example')).toBeUndefined()
  })

  it('refuses server names that are URLs', async () => {
    await using folder = await temporaryFolder()
    await expect(open(folder.path, ['https://cloud.example'])).rejects.toMatchObject({ code: 'SERVER_NAME_INVALID' })
  })

  it('makes no server certificate that would not live longer than the one it replaces', async () => {
    await using folder = await temporaryFolder()
    const first = await open(folder.path)
    const clock = new ShiftedClock()
    clock.shiftMs = 24 * yearMs
    const log = new KeptLog()
    const later = await open(folder.path, [], clock, log)
    expect(later.server).toEqual(first.server)
    expect(log.lines).toContain('warn the CA certificate is in the last third of its life')
  })

  it.each([
    ['half written', (path: string) => truncate(path, 300)],
    ['empty', (path: string) => truncate(path, 0)],
    ['flipped', async (path: string) => {
      const text = await readFile(path, 'utf8')
      await writeFile(path, text.replace(/^(.{200})./s, '$1!'))
    }]
  ])('does not start on a CA file that is %s, and says what to do', async (_how, damage) => {
    await using folder = await temporaryFolder()
    await open(folder.path)
    await damage(join(folder.path, 'ca.pem'))
    await expect(open(folder.path)).rejects.toMatchObject({
      code: 'IDENTITY_CORRUPT',
      message: expect.stringMatching(/ca\.pem: .*restore it from a backup.*every node join again/) as string
    })
  })

  it('does not make another CA in place of a lost one', async () => {
    await using folder = await temporaryFolder()
    await open(folder.path)
    await rm(join(folder.path, 'ca.pem'))
    await expect(open(folder.path)).rejects.toMatchObject({ code: 'IDENTITY_CA_MISSING' })
  })

  it('makes a damaged server certificate again and keeps the damaged file', async () => {
    await using folder = await temporaryFolder()
    const first = await open(folder.path)
    await truncate(join(folder.path, 'server.pem'), 100)
    const log = new KeptLog()
    const second = await open(folder.path, [], new ShiftedClock(), log)
    expect(second.caPem).toBe(first.caPem)
    expect(log.lines).toContain('warn the server certificate cannot be read and is made again')
    expect(await readdir(folder.path)).toContain('server.pem.corrupt')
  })

  it('cleans up what a crash in the middle of a write left', async () => {
    await using folder = await temporaryFolder()
    await writeFile(join(folder.path, 'ca.pem.0a1b2c.tmp'), 'half')
    await open(folder.path)
    expect(await readdir(folder.path)).not.toContain('ca.pem.0a1b2c.tmp')
  })
})

describe('certificates', () => {
  it('are valid from 1970 on, so that a clock that is behind does not matter (L7)', async () => {
    await using folder = await temporaryFolder()
    const clock = new ShiftedClock()
    const authority = await open(folder.path, [], clock)
    const node = await authority.issueNodeCertificate('edge-1' as NodeName, createPublicKey(p256()))
    for (const pem of [authority.caPem, authority.server.certificate, node.pem]) {
      const certificate = new X509Certificate(pem)
      expect(certificate.validFromDate.getTime()).toBe(0)
      expect(certificate.validToDate.getTime()).toBeGreaterThan(clock.wallMs() + 9.9 * yearMs)
      expect(certificate.validToDate.getTime()).toBeLessThanOrEqual(authority.ca.validToDate.getTime())
    }
  })

  it('made while the clock says 1970 do not end in 1980', async () => {
    await using folder = await temporaryFolder()
    const clock = new ShiftedClock()
    clock.shiftMs = -clock.wallMs()
    const authority = await open(folder.path, [], clock)
    expect(authority.ca.validToDate.getTime()).toBeGreaterThan(1_767_225_600_000 + 9.9 * yearMs)
  })

  it('carry a node name of 253 characters, read back from the certificate only', async () => {
    await using folder = await temporaryFolder()
    const authority = await open(folder.path)
    const name = parseNodeName([63, 63, 63, 61].map(length => 'x'.repeat(length)).join('.'))!
    expect(name).toHaveLength(253)
    const { pem } = await authority.issueNodeCertificate(name, createPublicKey(p256()))
    expect(nodeNameFromCertificate(new X509Certificate(pem), authority.clusterUid)).toBe(name)
  })

  it.each([
    undefined, '', 'DNS:edge-1', 'URI:holdfast://UID/nodes/edge-1, DNS:edge-1', 'URI:holdfast://UID/nodes/Edge',
    'URI:holdfast://UID/nodes/a/b', 'URI:holdfast://UID/nodes/', 'URI:https://UID/nodes/edge-1',
    'URI:"holdfast://UID/nodes/edge-1"', 'URI:holdfast://00000000-0000-4000-8000-000000000001/nodes/edge-1'
  ])('name no node by %s', text => {
    const clusterUid = '00000000-0000-4000-8000-000000000000'
    expect(() => nodeNameFromCertificate({ subjectAltName: text?.replace('UID', clusterUid) }, clusterUid))
      .toThrow(expect.objectContaining({ code: 'NODE_CERTIFICATE_INVALID' }))
  })

  it.runIf(existsSync('/usr/bin/openssl'))('are what OpenSSL accepts, strictly', async () => {
    await using folder = await temporaryFolder()
    const authority = await open(folder.path, ['cloud.example', '10.1.2.3'])
    const node = await authority.issueNodeCertificate('edge-1' as NodeName, createPublicKey(p256()))
    const place = (name: string): string => join(folder.path, name)
    await Promise.all([
      writeFile(place('ca.crt'), authority.caPem), writeFile(place('server.crt'), authority.server.certificate),
      writeFile(place('node.crt'), node.pem)
    ])
    const openssl = async (...args: string[]): Promise<string> =>
      (await promisify(execFile)('/usr/bin/openssl', args)).stdout
    const verify = (purpose: string, file: string): Promise<string> =>
      openssl('verify', '-x509_strict', '-check_ss_sig', '-CAfile', place('ca.crt'), '-purpose', purpose, place(file))
    expect(await verify('sslserver', 'server.crt')).toContain('OK')
    expect(await verify('sslclient', 'node.crt')).toContain('OK')
    expect(await openssl('verify', '-attime', '300', '-CAfile', place('ca.crt'), place('node.crt'))).toContain('OK')
    await expect(verify('sslclient', 'server.crt')).rejects.toThrow(/purpose/)
    await expect(verify('sslserver', 'node.crt')).rejects.toThrow(/purpose/)
    const ca = await openssl('x509', '-in', place('ca.crt'), '-noout', '-text')
    expect(ca).toMatch(/CA:TRUE, pathlen:0/)
    expect(ca).toMatch(/Certificate Sign, CRL Sign/)
    const server = await openssl('x509', '-in', place('server.crt'), '-noout', '-text')
    expect(server).toMatch(/DNS:cloud.example/)
    expect(server).toMatch(/IP Address:10\.1\.2\.3/)
    const client = await openssl('x509', '-in', place('node.crt'), '-noout', '-text')
    expect(client).toMatch(/CN = node:edge-1/)
    expect(client).toContain(`URI:holdfast://${authority.clusterUid}/nodes/edge-1`)
    expect(client).toMatch(/TLS Web Client Authentication/)
    expect(client).toMatch(/Not Before: Jan {2}1 00:00:00 1970/)
  })
})
