import { execFile } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { SystemRandom } from '@holdfast/runtime'
import { expect, onTestFinished, test } from 'vitest'
import { loadServingCertificate } from './serving-certificate.ts'

const names = ['127.0.0.1', '::1', 'localhost']
const random = new SystemRandom()

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'holdfast-serving-'))
  onTestFinished(() => rm(path, { recursive: true, force: true }))
  return path
}

test('it is made once, names all names, and is valid for as long as clocks can say', async () => {
  const path = await folder()
  const made = await loadServingCertificate(path, names, { random })
  expect(await loadServingCertificate(path, names, { random })).toEqual(made)
  const certificate = new X509Certificate(made.certificatePem)
  expect(certificate.subjectAltName).toBe('IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1, DNS:localhost')
  expect(certificate.validFromDate.toISOString()).toBe('1970-01-01T00:00:00.000Z')
  expect(certificate.validToDate.toISOString()).toBe('9999-12-31T23:59:59.000Z')
  expect(certificate.ca).toBe(false)
  expect((await stat(join(path, 'tls.key'))).mode & 0o777).toBe(0o600)
})

test('openssl takes it for its own root', async () => {
  const path = await folder()
  await loadServingCertificate(path, names, { random })
  const certificate = join(path, 'tls.crt')
  const { stdout } = await promisify(execFile)('openssl', ['verify', '-purpose', 'sslserver', '-CAfile', certificate, certificate])
  expect(stdout).toContain('OK')
})

test('it is made anew where a name is missing, where key and certificate do not fit, and where one is damaged', async () => {
  const path = await folder()
  const first = await loadServingCertificate(path, names, { random })
  const second = await loadServingCertificate(path, [...names, '192.0.2.7', '2001:db8::7', 'edge-1'], { random })
  expect(second).not.toEqual(first)
  expect(new X509Certificate(second.certificatePem).checkIP('2001:db8::7')).toBe('2001:db8::7')
  expect(await loadServingCertificate(path, names, { random })).toEqual(second)
  await writeFile(join(path, 'tls.key'), first.keyPem)
  const third = await loadServingCertificate(path, names, { random })
  expect(third.certificatePem).not.toBe(second.certificatePem)
  await writeFile(join(path, 'tls.crt'), third.certificatePem.slice(0, 200))
  expect(await loadServingCertificate(path, names, { random })).not.toEqual(third)
  expect(await readFile(join(path, 'tls.crt'), 'utf8')).toContain('END CERTIFICATE')
})
