import { execFile } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join as joinPath } from 'node:path'
import { createServer } from 'node:tls'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { nodeNameOfPeer, serverTlsOptions } from '../../packages/cloudcore/src/identity/index.ts'
import { IdentityCloud, temporaryFolder } from '../../packages/cloudcore/src/identity/testing/identity-fixture.ts'
import { fakeClockAbsent, fakeClockEnvironment } from '../harness/fake-clock.ts'

const source = (path: string): string => JSON.stringify(joinPath(import.meta.dirname, '../../packages', path))

/** Joins when it is given a token, connects to the tunnel, prints its year and what the cloud calls it. */
const nodeProgram = `
  import { connect } from 'node:tls'
  import { join } from ${source('cli/src/join.ts')}
  import { loadIdentity } from ${source('edgecore/src/identity.ts')}
  const [server, token, dataDir] = process.argv.slice(2)
  if (token !== '') await join({ server, token, node: 'edge-1', dataDir })
  const { serverUrl, tlsOptions } = await loadIdentity(dataDir)
  const { hostname, port } = new URL(serverUrl)
  connect({ host: hostname, port, ...tlsOptions })
    .on('data', name => console.log(new Date().getUTCFullYear() + ' ' + name))
`

it('a node joins and connects while its clock says 1970, and when it is years ahead (L7)', async ({ skip }) => {
  skip(fakeClockAbsent !== undefined, fakeClockAbsent)
  await using folder = await temporaryFolder()
  const ports = { tunnel: 0 }
  await using cloud = await IdentityCloud.start({
    folder: joinPath(folder.path, 'cloud'), tunnelPort: () => ports.tunnel
  })
  const tunnel = createServer(serverTlsOptions(cloud.authority, 'tunnel'), socket => {
    socket.on('error', () => undefined).end(nodeNameOfPeer(socket, cloud.authority))
  })
  await new Promise<void>(resolve => { tunnel.listen(0, '127.0.0.1', resolve) })
  try {
    ports.tunnel = (tunnel.address() as { port: number }).port
    const dataDir = joinPath(folder.path, 'edge')
    await mkdir(dataDir)
    const program = joinPath(folder.path, 'node.ts')
    await writeFile(program, nodeProgram)
    const runAt = async (time: string, token: string): Promise<string> => {
      const env = { ...process.env, ...fakeClockEnvironment, FAKETIME: time }
      const args = [program, `127.0.0.1:${cloud.port}`, token, dataDir]
      return (await promisify(execFile)(process.execPath, args, { env })).stdout
    }
    const { token } = await cloud.tokens.create({})
    expect(await runAt('@1970-01-01 00:05:00', token)).toBe('1970 edge-1\n')
    expect(await runAt('@2034-01-01 00:00:00', '')).toBe('2034 edge-1\n')
  } finally {
    await new Promise<void>(resolve => { tunnel.close(() => resolve()) })
  }
})
